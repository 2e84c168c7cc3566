#!/bin/sh
# A small codec of our own from photographs, all six phases one after another: lab/tiny/train.sh MANIFEST [OVERRIDES]
#
# MANIFEST is of photographs (python scripts/prepare_data.py FOLDER --kind photos --validation 0.2). Phases are those of
# tiny with budget=minutes, each from the export of the one before. Runs are left in outputs/train/tiny_*-minutes, models in
# outputs/models/tiny_*-minutes; the last is a codec: gnvc-vd encode --model outputs/models/tiny_pixel-minutes
# What is interrupted goes on where it stood when the same command is given again.
set -e
[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
manifest=$1
shift
python=${PYTHON:-python}
runs= start=null
for phase in vae prior decoder warmup latent pixel; do
    run=outputs/train/tiny_$phase-minutes model=outputs/models/tiny_$phase-minutes
    "$python" scripts/train.py experiment=tiny_$phase budget=minutes model.start=$start \
        data=photos data.manifest="$manifest" data.longest_side=640 "$@"
    if [ $phase = pixel ]; then refit=--refit; else refit=; fi
    "$python" scripts/export.py $run $model $refit
    runs="$runs $run" start=$model
done
"$python" -m lab.plot_run $runs outputs/train/tiny-minutes.png
