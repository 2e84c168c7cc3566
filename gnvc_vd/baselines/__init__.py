"""Other people's codecs as commands: hybrid ones through the packaged ffmpeg, any other behind a template."""
