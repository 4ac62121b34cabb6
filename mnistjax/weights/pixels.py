"""The names of the ways in which weights may want their images; `preprocess` carries them out."""

PIXELS = {
    "caffe": "bilinear, no antialias, BGR minus means",
    "torch": "bilinear, no antialias, RGB / 255 minus means over deviations",
}
