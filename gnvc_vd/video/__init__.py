"""Video in and out: iterators of frames, colour by name, never a whole film in memory."""

from gnvc_vd.video.reader import Picture, RawVideo, Video, VideoError, VideoInfo, open_video
from gnvc_vd.video.writer import create_video

__all__ = ["Picture", "RawVideo", "Video", "VideoError", "VideoInfo", "create_video", "open_video"]
