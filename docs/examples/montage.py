"""Colour, depth and normals of the front cameras of one frame of an RGB-D tree, in one picture.

python montage.py views/scene-0001 FRAME out.png
"""

import sys

import numpy as np
from PIL import Image

scene, frame, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rows = []
for kind in ("color", "depth", "normal"):
    images = []
    for camera in ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"):
        image = np.asarray(Image.open(f"{scene}/{kind}/{camera}/{frame:06d}.png"))
        if kind == "depth":  # near is light; nothing is black
            near = np.where(image > 0, np.clip(1 - image / 40_000, 0, 1), 0)
            image = np.repeat((255 * near).astype(np.uint8)[..., None], 3, axis=2)
        images.append(image)
    rows.append(np.hstack(images))
Image.fromarray(np.vstack(rows)).save(out)
