#!/usr/bin/env bash
# Driving logs in, labelled shards out. Usage: docs/real-input.sh LOGS OUT
#
# LOGS is a folder of Argoverse 2 sensor logs; OUT must not exist. About ten minutes on 2 CPU cores. The
# sizes are for trying things out; VAE_STEPS, DIT_STEPS, SCENES and WORKERS in the environment change them.
set -euo pipefail

logs=${1:?"usage: docs/real-input.sh LOGS OUT"}
out=${2:?"usage: docs/real-input.sh LOGS OUT"}
vae_steps=${VAE_STEPS:-600}
dit_steps=${DIT_STEPS:-400}
scenes=${SCENES:-8}
workers=(${WORKERS:+--workers "$WORKERS"})
batch=${DIT_BATCH:-16}
sampling=${SAMPLING_STEPS:-20}

mkdir "$out"
dyncity import av2 "$logs" --preset tiny --out "$out/recorded" "${workers[@]}"
dyncity view "$out/recorded" --out "$out/recorded.gif"

dyncity train vae --data "$out/recorded" --preset tiny --out "$out/vae" "${workers[@]}" \
  --set "train_vae.steps=$vae_steps" --set "train_vae.checkpoint_every=$((vae_steps / 2))"
dyncity encode --data "$out/recorded" --vae "$out/vae" --out "$out/latents"
dyncity train dit --data "$out/latents" --vae "$out/vae" --out "$out/dit" "${workers[@]}" \
  --set "train_dit.steps=$dit_steps" --set "train_dit.batch=$batch" \
  --set "train_dit.checkpoint_every=$((dit_steps / 2))"

dyncity generate --checkpoint "$out/dit" --num-scenes "$scenes" --steps "$sampling" --out "$out/corpus" \
  "${workers[@]}"
dyncity verify "$out/corpus"
dyncity export "$out/corpus" --format semantickitti --out "$out/kitti"
dyncity export "$out/corpus" --format occ3d-nuscenes --out "$out/occ3d"
dyncity view "$out/corpus" --out "$out/generated.gif"
