"""Rate–distortion curves of your own videos beside x265: python examples/rd_curve.py FOLDER_OF_VIDEOS OUT

OUT/report gets a picture for each metric, tables with BD-rates, and a page with a player. Called again, it goes on.
"""

import argparse
import json
from pathlib import Path

import gnvc_vd
from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.evaluate.evaluation import CodecEntry, Evaluation, OwnCodec, ReportOptions
from gnvc_vd.evaluate.run import evaluate
from gnvc_vd.report.evaluation_report import write_report

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("videos", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--model", default="tiny", help="a preset, a model folder or a hub id")
parser.add_argument("--frames", type=int, default=25, help="of each video")
parser.add_argument("--device", default="cpu")
arguments = parser.parse_args()
sequences = []
for path in sorted(arguments.videos.iterdir()):
    with gnvc_vd.open_video(path) as video:
        info = video.info
    frames = min(arguments.frames, info.frames or arguments.frames)  # some files do not say how many they hold
    about = {"width": info.width, "height": info.height, "rate": str(info.rate), "frames": frames}
    colour = {"matrix": info.colour.matrix, "range": info.colour.range}
    sequences.append({"name": path.stem, "file": path.name, **about, **colour})
arguments.out.mkdir(parents=True, exist_ok=True)
manifest, about = arguments.out / "videos.json", {"format": 1, "title": "my videos", "home": "", "licence": ""}
manifest.write_text(json.dumps(about | {"frames": arguments.frames, "gop": 25, "sequences": sequences}))
ours = CodecEntry(ours=OwnCodec(levels=(27, 39, 51, 63), model=arguments.model))  # qualities
x265 = CodecEntry(hybrid=Hybrid("x265", levels=(36, 41, 46, 51), intra=25))  # CRFs
evaluation = Evaluation("rd_curve", str(arguments.out), str(manifest), {"gnvc-vd": ours, "x265": x265},
    root=str(arguments.videos), metrics=("cvvdp", "vmaf", "psnr_rgb"), report=ReportOptions(anchor="x265"))  # fmt: skip
done = evaluate(evaluation, arguments.device)
print(*done.failures, write_report(evaluation, done.points, arguments.out / "report") if done.points else "", sep="\n")
