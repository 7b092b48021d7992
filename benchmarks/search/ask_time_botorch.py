"""What the model of an ask costs with BoTorch's SingleTaskGP in the place of our own Gaussian process.

    python benchmarks/search/ask_time_botorch.py [--observations 30 300] [--repetitions 9]

Both learn from the same trainings of the table of CIFAR-10 (beyond its 398, from the table's surrogate) and predict all
candidates of the space of spaces/cifar10.yaml, in float64 on one thread, in turns. Both have a Matern-5/2 kernel with
one lengthscale per feature, an output scale, a constant mean and the same priors of the hyperparameters. "Learning"
fits the hyperparameters from nothing and predicts; "kept" takes them from the last fit, as between two asks that learn.
Ours learns from at most 350 of the observations. Prints Markdown tables of processor times; a ratio is BoTorch's time
by ours, its median and quartiles over the repetitions.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import botorch
import gpytorch
import numpy as np
import torch
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from scale import cifar10_space

from mgnas.errors import first_line
from mgnas.search.history.table import SHIPPED, TabularBenchmark
from mgnas.search.samplers.features import architecture_features
from mgnas.search.samplers.gaussian_process import AccuracyModel
from mgnas.search.samplers.outcome_transforms import LogErrorTransform
from mgnas.search.simulation.surrogate import surrogate_table

Prediction = tuple[np.ndarray, np.ndarray]


def observations(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features, n x d, and log errors, n, of random trainings of the table, or of its surrogate if it has too few."""
    table = TabularBenchmark.load(SHIPPED / "cifar10.json.gz")
    if count > len(table.rows):
        table = surrogate_table(table)
    chosen = np.random.default_rng(seed).choice(len(table.rows), count, replace=False)
    rows = [table.rows[row] for row in chosen]
    x = np.array([architecture_features(row.config) for row in rows])
    return x, LogErrorTransform().transform(np.array([row.curve[-1] for row in rows]))


class Ours:
    """The model as the sampler `ehvi` uses it."""

    def learn(self, x: np.ndarray, y: np.ndarray, candidates: np.ndarray) -> Prediction:
        self._model = AccuracyModel()
        return self._model.fit(x, y, np.zeros(len(x))).predict(candidates)

    def keep(self, x: np.ndarray, y: np.ndarray, candidates: np.ndarray) -> Prediction:
        return self._model.fit(x, y, np.zeros(len(x))).predict(candidates)


class BoTorch:
    """SingleTaskGP as its documentation has it, with our kernel and priors."""

    def learn(self, x: np.ndarray, y: np.ndarray, candidates: np.ndarray) -> Prediction:
        model = self._make(x, y)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        self._state = model.state_dict()
        return self._predict(model, candidates)

    def keep(self, x: np.ndarray, y: np.ndarray, candidates: np.ndarray) -> Prediction:
        model = self._make(x, y)
        model.load_state_dict(self._state)
        return self._predict(model, candidates)

    @staticmethod
    def _make(x: np.ndarray, y: np.ndarray) -> SingleTaskGP:
        kernel = get_covar_module_with_dim_scaled_prior(ard_num_dims=x.shape[1], use_rbf_kernel=False)
        noise = LogNormalPrior(-2.0, 1.0)
        return SingleTaskGP(
            torch.from_numpy(x),
            torch.from_numpy(y)[:, None],
            covar_module=ScaleKernel(kernel, outputscale_prior=LogNormalPrior(0.0, 1.0)),
            likelihood=GaussianLikelihood(
                noise_prior=noise,
                noise_constraint=GreaterThan(1e-5, transform=None, initial_value=noise.mode),  # pyright: ignore[reportArgumentType] - None is how BoTorch itself calls it
            ),
            outcome_transform=Standardize(m=1),
        )

    @staticmethod
    def _predict(model: SingleTaskGP, candidates: np.ndarray) -> Prediction:
        # One by one as far as covariances go: the joint posterior of all candidates takes three times as long.
        with torch.no_grad():
            posteriors = [model.posterior(part[:, None]) for part in torch.from_numpy(candidates).split(2048)]
            mean = torch.cat([posterior.mean.flatten() for posterior in posteriors])
            return mean.numpy(), torch.cat([posterior.variance.flatten() for posterior in posteriors]).sqrt().numpy()


def timed(call: Callable[..., Prediction], *args: np.ndarray) -> tuple[float, Prediction]:
    before = time.process_time()
    prediction = call(*args)
    return time.process_time() - before, prediction


def measure(count: int, candidates: np.ndarray, repetitions: int) -> list[str]:
    """Lines of the table for this number of observations."""
    x, y = observations(count)
    models = {"ours": Ours(), "BoTorch": BoTorch()}
    lines = []
    for kind in ("learn", "keep"):
        times: dict[str, list[float]] = {name: [] for name in models}
        means = {}
        for turn in range(repetitions + 1):
            for name in sorted(models, reverse=bool(turn % 2)):
                spent, (means[name], _) = timed(getattr(models[name], kind), x, y, candidates)
                if turn:  # The first turn warms up.
                    times[name].append(spent)
        ratios = np.array(times["BoTorch"]) / np.array(times["ours"])
        low, median, high = np.percentile(ratios, [25, 50, 75])
        difference = float(np.sqrt(np.mean((means["ours"] - means["BoTorch"]) ** 2)) / np.std(y))
        lines.append(
            f"| {count:,} | {'learning' if kind == 'learn' else 'kept'} | {np.median(times['ours']):.3f} s | "
            f"{np.median(times['BoTorch']):.3f} s | {median:.1f} ({low:.1f} to {high:.1f}) | {difference:.3f} |"
        )
    return lines


IMPORTS = {
    "ours": "from mgnas.search.samplers.gaussian_process import AccuracyModel",
    "BoTorch": "from botorch.models import SingleTaskGP; from botorch.fit import fit_gpytorch_mll; "
    "from gpytorch.mlls import ExactMarginalLogLikelihood",
}


def import_seconds(statement: str) -> float:
    """Processor time of a statement in a new process that has imported torch, NumPy and SciPy's optimiser already."""
    code = (
        "import time, numpy, scipy.optimize, torch; before = time.process_time()\n"
        f"{statement}\nprint(time.process_time() - before)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""))
    parser.add_argument("--observations", type=int, nargs="+", default=[30, 300])
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    candidates = np.array([architecture_features(each.architecture) for each in cifar10_space().enumerate()])
    print(f"Predicted: {len(candidates):,} candidates.\n")
    print("| observations | hyperparameters | ours | BoTorch | ratio (quartiles) | rms difference of means, in sd |")
    print("|---:|---|---:|---:|---|---:|", flush=True)
    for count in options.observations:
        print("\n".join(measure(count, candidates, options.repetitions)), flush=True)
    seconds = {name: [] for name in IMPORTS}
    for _ in range(options.repetitions):
        for name, statement in IMPORTS.items():
            seconds[name].append(import_seconds(statement))
    print("\nImport after torch and SciPy, median (quartiles):")
    for name in IMPORTS:
        low, median, high = np.percentile(seconds[name], [25, 50, 75])
        print(f"{name} {median:.2f} s ({low:.2f} to {high:.2f})")
    print(
        f"\n{options.repetitions} repetitions; {platform.machine()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, BoTorch {botorch.__version__}, GPyTorch {gpytorch.__version__}, 1 thread."
    )


if __name__ == "__main__":
    main()
