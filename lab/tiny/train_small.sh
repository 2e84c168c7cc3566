#!/bin/sh
# A small codec of our own from photographs, all five phases one after another: lab/tiny/train_small.sh MANIFEST [OVERRIDES]
#
# MANIFEST is of photographs (python scripts/prepare_data.py FOLDER --kind photos --validation 0.2). Runs are left in
# outputs/train/small_*, models in outputs/models/small_*; the last is a codec: gnvc-vd encode --model outputs/models/small_pixel
# What is interrupted goes on where it stood when the same command is given again.
set -e
[ $# -ge 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
manifest=$1
shift
python=${PYTHON:-python}
runs=
for phase in vae prior warmup latent pixel; do
    "$python" scripts/train.py experiment=small_$phase data.manifest="$manifest" "$@"
    runs="$runs outputs/train/small_$phase"
    if [ $phase = pixel ]; then refit=--refit; else refit=; fi
    "$python" scripts/export.py outputs/train/small_$phase outputs/models/small_$phase $refit
done
"$python" scripts/plot_run.py $runs outputs/train/small.png
