"""Pictures made small for a page, in their place: at most 900 pixels wide, of 255 colours.

python smaller.py FILE ...
"""

import sys

from PIL import Image

for path in sys.argv[1:]:
    image = Image.open(path)
    image.thumbnail((900, 900))
    # An octree keeps colours that few pixels have; by the median cut people are brown.
    image.quantize(255, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)
