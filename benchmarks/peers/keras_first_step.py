"""From nothing to one training step of the small CNN in Keras 3 on TensorFlow."""

import os

import numpy as np

from benchmarks.peers.keras_small import network, start

start("tensorflow", int(os.environ.get("OMP_NUM_THREADS", "0")))
images, labels = np.zeros((128, 28, 28, 1), np.float32), np.zeros(128, np.int32)
float(network().train_on_batch(images, labels))
