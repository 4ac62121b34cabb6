"""What the suite answers, a question a job: `python -m benchmarks JOB` runs one alone."""

from typing import NamedTuple


class Job(NamedTuple):
    """One line for the report, whether `python -m benchmarks` runs it unasked, and what it needs.

    `venv`: the environment without which the suite leaves it out.
    """

    title: str
    by_default: bool = False
    venv: str = ""


JOBS = {
    "step": Job("training step of the small CNN", True),
    "epoch": Job("a whole epoch: one program, or a loop of steps", True),
    "vgg16": Job("frozen convolutions forward, and a whole training step", True),
    "nets": Job("ResNet-18, MobileNetV2, U-Net, ConvNeXt-T: a training step, and forward"),
    "finetune": Job("fine-tuning VGG16's head, the whole job"),
    "time_to_accuracy": Job("time to 98, 99 and 99.5 % on MNIST"),
    "quick": Job("one epoch for 99 % of MNIST, the whole process"),
    "input": Job("the data path alone", True),
    "photos": Job("a folder of photos to batches"),
    "startup": Job("import, --help, and the first training step", True),
    "serve": Job("a server on loopback, 50 clients"),
    "scaling": Job("the step by batch size, and over several devices"),
    "processes": Job("sums over two processes, and the step by them"),
    "ops": Job("single operations against XLA's default"),
    "tune": Job("every lowering of every convolution"),
    "tpu_aot": Job("training steps compiled for TPUs, without one", venv="tpu"),
    "tpu_pods": Job("training steps compiled for 16 and 256 TPUs, without one", venv="tpu"),
}
