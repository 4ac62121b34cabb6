"""Images in: every source gives the same `Dataset` of uint8 NHWC images and int32 labels."""
