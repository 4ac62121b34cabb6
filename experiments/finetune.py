"""Fine-tune VGG16 with Keras's weights: what it makes of MNIST and of photos is in RESULTS.md.

python -m experiments.finetune                                  what can be had, said loudly
python -m experiments.finetune --data-dir DIR --weights PATH.h5 your data, your weights
python -m experiments.finetune --preset keras                   the article's recipe
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
