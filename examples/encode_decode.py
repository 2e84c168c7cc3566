"""Encode a video and decode it, with progress: python examples/encode_decode.py film.mp4 film.gnvc decoded.mkv"""

import argparse
from pathlib import Path

from tqdm import tqdm

import gnvc_vd
from gnvc_vd.bitstream import Writer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("stream", type=Path)
    parser.add_argument("decoded", type=Path)
    parser.add_argument("--model", default="tiny", help="a preset, a model folder or a hub id")
    parser.add_argument("--quality", type=int, default=32, help="0 to 63")
    arguments = parser.parse_args()
    codec, settings = gnvc_vd.load(arguments.model), gnvc_vd.EncodeOptions(quality=arguments.quality)
    with gnvc_vd.open_video(arguments.source) as video, arguments.stream.open("wb") as file:
        info, writer = video.info, Writer(file, codec.header(video.info, settings))
        for unit in codec.encode_units(tqdm(video, desc="encoding", total=info.frames, unit="frame"), settings):
            writer.write(unit)  # a second of video, as soon as its frames have come
        writer.close()
    with (
        arguments.stream.open("rb") as file,
        gnvc_vd.create_video(arguments.decoded, info.width, info.height, info.rate, info.colour) as out,
        tqdm(desc="decoding", total=info.frames, unit="frame") as progress,
    ):
        for frames in codec.decode(file):  # T H W 3 uint8, a window at a time
            for frame in frames:
                out.write(frame)
            progress.update(len(frames))
    print(f"{arguments.source.stat().st_size} bytes in, {arguments.stream.stat().st_size} bytes coded")


if __name__ == "__main__":
    main()
