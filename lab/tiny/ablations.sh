#!/bin/sh
# What tiny's parts are worth: the published ablations and the adaptor's depth, all from one warm-up, at equal steps.
#
#   lab/tiny/ablations.sh ROOT [OVERRIDES]      ROOT is the folder of the public clips (manifest public)
#
# It begins with the export of tiny_warmup, outputs/models/tiny_warmup, and asks data=tiny to be there. Every variant trains
# Stage I and Stage II for a fraction of what the shipped model had, so compare variants with one another and not with it.
# Runs are left in outputs/ablations/runs, models in outputs/ablations/models, and what ablation.py makes of the evaluation
# in outputs/evaluate/tiny_ablations. What is interrupted goes on where it stood. LAUNCH="torchrun --standalone
# --nproc_per_node 2" trains with two processes; STEPS_1 and STEPS_2 are the stages' lengths.
set -e
[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2; }
root=$1
shift
python=${PYTHON:-python} launch=${LAUNCH:-$python}
steps_1=${STEPS_1:-200} steps_2=${STEPS_2:-300}
out=outputs/ablations judged=outputs/evaluate/tiny_ablations

# train NAME EXPERIMENT STEPS START OVERRIDES…
train() (
    name=$1 experiment=$2 steps=$3 start=$4
    shift 4
    $launch scripts/train.py experiment="$experiment" name="$name" hydra.run.dir="$out/runs/$name" model.start="$start" \
        "stage.spans=[{steps:$steps,frames:17,size:96,batch:4}]" run.validate_every="$steps" run.clips=2 "$@"
)
export_run() {
    [ -f "$out/models/$1/model.json" ] || "$python" scripts/export.py "$out/runs/$1" "$out/models/$1" $2
}

# The folder of a variant's evaluation bears its name, which the study's plot shows.
judge() {
    export_run "$1" --refit
    case $1 in no_refinement) way=+codecs.gnvc-vd.ours.decode.no-refine=true ;; *) way= ;; esac
    "$python" scripts/evaluate.py experiment=public folder="$judged/$1" root="$root" "only=[gnvc-vd]" \
        codecs.gnvc-vd.ours.model="$out/models/$1" codecs.gnvc-vd.ours.levels="[0,21,42,63]" \
        "metrics=[cvvdp,vmaf,st_lpips_alex,psnr_rgb,e_warp]" at_once=2 $way
}

# variant NAME STAGE_1_OVERRIDES STAGE_2_OVERRIDES MORE…, overrides divided by blanks
variant() {
    name=$1 first=$2 second=$3
    shift 3
    train "$name-1" tiny_latent "$steps_1" outputs/models/tiny_warmup $first "$@"
    export_run "$name-1"
    train "$name" tiny_pixel "$steps_2" "$out/models/$name-1" $second "$@"
    judge "$name"
}

bare="stage.trains=[codec] stage.unrolled=0 stage.weights.refined=0"
variant full "" "" "$@"
variant no_refinement "$bare stage.weights.cfm=0" "$bare" "$@"
variant no_stage_2 "" "stage.weights.pixel=0 stage.weights.perceptual=0 +stage.weights.cfm=1" "$@"
# Without Stage I its steps are Stage II's: as many clips seen, every one of them by Stage II's loss.
train no_stage_1 tiny_pixel $((steps_1 + steps_2)) outputs/models/tiny_warmup "$@"
judge no_stage_1
for layers in "" 0 0,1,2,3,4,5 0,3; do
    name=depth_$(echo "$layers" | tr -cd 0-9 | wc -c)
    variant "$name" "adaptor.layers=[$layers]" "adaptor.layers=[$layers]" "$@"
done
"$python" scripts/ablation.py "$judged" --codec gnvc-vd --anchor full
