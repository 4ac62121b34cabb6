"""A plan's learning rate, looked for instead of trained with."""

from pathlib import Path

from mnistjax.report.rate_test import write_rate_test
from mnistjax.runs.compiled_step import rows_at_once
from mnistjax.runs.plan import Plan
from mnistjax.training.learning_rate import find_learning_rate
from mnistjax.training.step import make_step


def say_rate(plan: Plan, directory: Path) -> str:
    """Find a rate of Adam's for `plan`, write what was seen, and say it in a line.

    Images are as they are, without augmentation. `directory` is made where it is not there.
    """
    found = find_learning_rate(
        lambda tx: make_step(
            apply_fn=plan.apply_fn,
            tx=tx,
            preprocess=plan.preprocess,
            micro_batch=rows_at_once(plan, plan.stages[0]),
            loss_fn=plan.loss_fn,
            seed=plan.seed,
        ),
        plan.params,
        plan.train,
        model_state=plan.model_state,
        batch_size=plan.batch_size,
        seed=plan.seed,
    )
    directory.mkdir(parents=True, exist_ok=True)
    picture = write_rate_test(directory, found)
    return f"suggested learning rate {found.suggestion:.2g}, the highest of a schedule · {picture}"
