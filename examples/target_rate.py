"""Code a clip at rates that you name, and compare what comes back: python examples/target_rate.py film.mp4 0.01 0.03

Rates are bits per pixel of the whole file. The encoder searches the quality (0 to 63) that comes nearest.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import gnvc_vd
from gnvc_vd.codecs.info import inspect
from gnvc_vd.codecs.transcode import decode_file, encode_video
from gnvc_vd.evaluate.compare import compare

METRICS = ("cvvdp", "vmaf", "psnr_rgb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("bpp", type=float, nargs="+")
    parser.add_argument("--model", default="tiny", help="a preset, a model folder or a hub id")
    arguments = parser.parse_args()
    codec = gnvc_vd.load(arguments.model)
    print(f"{'wanted':>8} {'bpp':>8} {'quality':>7} ", *(f"{name:>9}" for name in METRICS))
    with TemporaryDirectory() as folder:
        for bpp in arguments.bpp:
            stream, decoded = f"{folder}/clip.gnvc", f"{folder}/decoded.mkv"
            with gnvc_vd.open_video(arguments.source) as video:
                encode_video(codec, video, stream, gnvc_vd.EncodeOptions(bpp=bpp))
            decode_file(lambda header: codec, stream, decoded, gnvc_vd.DecodeOptions())
            figures, coded = compare(str(arguments.source), decoded, metrics=METRICS).figures, inspect(stream)
            quality = coded.units[0][1].quality
            print(f"{bpp:8.4f} {coded.bpp:8.4f} {quality:7} ", *(f"{figures[name]:9.3f}" for name in METRICS))


if __name__ == "__main__":
    main()
