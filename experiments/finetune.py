"""Fine-tune VGG16 with Keras's weights: frozen blocks, a new head.

python -m experiments.finetune                                  what can be had, said loudly
python -m experiments.finetune --data-dir DIR --weights PATH.h5 your data, your weights
python -m experiments.finetune --preset keras                   the article's recipe

MNIST, ImageNet weights of blocks 1-3, all defaults: 99.61 +- 0.05 % on the 10,000 test images
(seeds 0, 1, 2), 73 s of features once and 26 s of training on 2 cores of an AMD EPYC, jax 0.10.2.
"""

import sys

from experiments.finetune_flags import FinetuneConfig
from mnistjax import cli


def main(config: FinetuneConfig) -> int:
    """Run the experiment and return 0; a signal raises `Stopped`."""
    with config.run_directory() as directory:
        # Only now the seconds of importing jax: a wrong flag has been answered already.
        from experiments.finetune_run import common, finetune

        return common.over_seeds(config, finetune, directory)


if __name__ == "__main__":
    sys.exit(cli.run(FinetuneConfig, main))
