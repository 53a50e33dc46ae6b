#!/usr/bin/env python3
"""Recomputes the figures of results/README.md from the CSV files under results/.

    tools/figures.py            prints the tables of the page, and the phrases of its prose that hold figures
    tools/figures.py --check    fails, naming the row or phrase, where page and data part

Every section below is a function that gives table rows and phrases. A row has to be a line of the page; a phrase has to
stand in its prose, whatever the line breaks. A table row of the page that no section gives is an error too, unless it
holds a link (the claims). Python's standard library is all it needs.
"""

import csv
import math
import re
import sys
from pathlib import Path
from statistics import fmean as mean
from statistics import stdev

RESULTS = Path(__file__).resolve().parent.parent / "results"
# Which method another one is measured against.
BASE = {"path-sgd": "sgd", "balanced-sgd": "sgd", "g-sgd": "sgd", "g-momentum": "momentum", "g-adam": "adam",
        "sgd, balanced first": "sgd", "momentum, balanced first": "momentum", "adam, balanced first": "adam"}


def load(name):
    """The runs of a CSV file as {method: {lr: [run, ...]}}, seeds in order."""
    methods = {}
    with open(RESULTS / f"{name}.csv", newline="", encoding="utf-8") as file:
        for run in csv.DictReader(file):
            method = re.sub(r"\bgsgd", "g-sgd", run["way"])
            methods.setdefault(method, {}).setdefault(float(run["lr"]), []).append(run)
    return methods


def column(runs, name="test_error"):
    """One figure of every run that came through; errors in %."""
    return [float(run[name]) * (100 if name.endswith("error") else 1) for run in runs if run["outcome"] == "done"]


def diverged(runs):
    """How many runs left the finite numbers."""
    return sum(run["outcome"] == "diverged" for run in runs)


def chosen(rates):
    """The learning rate that the comparison chose, and its runs."""
    return next((lr, runs) for lr, runs in rates.items() if runs[0]["chosen"] == "true")


def best(rates, name="test_error"):
    """A figure of every run of the chosen learning rate."""
    return column(chosen(rates)[1], name)


def regularised_beta(a, b, x):
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz)."""
    if x > (a + 1) / (a + b + 2):
        return 1.0 - regularised_beta(b, a, 1.0 - x)
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 200):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            c, d = 1.0 + term / c, 1.0 / (1.0 + term * d)
            fraction *= c * d
    beta = math.exp(math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))
    return x**a * (1.0 - x) ** b / a / beta * fraction


def two_sided(t, freedom):
    """The probability that Student's t is at least as far from 0 as this one."""
    return regularised_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def interval(values):
    """Half the width of the 95 % interval of the mean; the quantile of t by bisection."""
    low, high = 0.0, 100.0
    for _ in range(60):
        t = (low + high) / 2
        low, high = (t, high) if two_sided(t, len(values) - 1) > 0.05 else (low, t)
    return low * stdev(values) / math.sqrt(len(values))


def paired(a, b):
    """The mean of b - a and the p value of the paired t test (1 where no pair differs)."""
    differences = [second - first for first, second in zip(a, b, strict=True)]
    error = stdev(differences) / math.sqrt(len(differences))
    return mean(differences), two_sided(mean(differences) / error, len(a) - 1) if error else 1.0


def short(p):
    """A p value, with three decimals below 0.1, so that the border at 0.05 can be read off."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if round(p, 3) < 0.1 else f"{p:.2f}"


def signed(test, digits=2):
    """A difference with its p value."""
    difference = round(test[0], digits)
    return f"{difference:+.{digits}f} ({short(test[1])})" if difference else f"{0:.{digits}f} ({short(test[1])})"


def tested(runs, method, base, name="test_error"):
    """The p value of a figure against another method's, in brackets; nothing where there is no other."""
    other = runs.get(base, runs[method])
    return "" if other is runs[method] else f" ({short(paired(best(other, name), best(runs[method], name))[1])})"


def spread(values, digits=2):
    """A mean with its interval."""
    return f"{mean(values):.{digits}f} ± {interval(values):.{digits}f}"


def rate(lr):
    """A learning rate without an exponent."""
    return f"{lr:.5f}".rstrip("0").rstrip(".")


def outcome(runs):
    """The mean test error of a learning rate, or what became of its runs; `dead` is one class for all images."""
    lost, errors = diverged(runs), column(runs)
    text = "" if not errors else "dead" if mean(errors) > 89 else f"{mean(errors):.2f}"
    return ", ".join(filter(None, [text, f"{lost} of {len(runs)} diverged" if lost else ""]))


def table(corner, columns, keys=None):
    """The rows of a Markdown table, from {title: {key: text}}, for these keys or for all."""
    keys = keys or dict.fromkeys(key for texts in columns.values() for key in texts)
    rows = [[corner, *columns], *([key, *(texts.get(key, "") for texts in columns.values())] for key in keys)]
    lines = ["".join(f"| {text} " if text else "| " for text in row) + "|" for row in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]


def method_table(name, base):
    """Every method at its chosen learning rate, with p values against one of them."""
    runs = load(name)
    columns = {"lr": {method: rate(chosen(rates)[0]) for method, rates in runs.items()}}
    for title, figure, digits in ("training loss", "train_loss", 3), ("test error, %", "test_error", 2):
        columns[title] = {method: spread(best(rates, figure), digits) + tested(runs, method, base, figure)
                          for method, rates in runs.items()}
    lost = {method: [sum(map(size, rates.values())) for size in (diverged, len)] for method, rates in runs.items()}
    return table("method", columns | {"diverged, all lr": {key: "{} of {}".format(*n) for key, n in lost.items()}})


def rate_table(names, base, methods=None):
    """Test errors by learning rate, with p values against another method at the same rate; then at the chosen rates."""
    columns, rates = {}, set()
    for title, name in names.items():
        runs = load(name)
        rates |= set(runs[base])
        for method in methods or runs:
            texts = columns.setdefault(title + method, {})
            for lr, at in runs[method].items():
                whole = method != base and not diverged(at) + diverged(runs[base][lr])
                p = f" ({short(paired(column(runs[base][lr]), column(at))[1])})" if whole else ""
                texts[rate(lr)] = outcome(at) + p
            lr, at = chosen(runs[method])
            texts["chosen"] = f"{outcome(at)} at {rate(lr)}{tested(runs, method, base)}"
    return table("lr", columns, [*map(rate, sorted(rates)), "chosen"])


def differences(name):
    """Test errors of methods less those of the methods that their plan compares them with, lr chosen for each."""
    runs, plan = load(name), (RESULTS / f"{name}.toml").read_text(encoding="utf-8")
    pairs = re.findall(r'name = "(.*)"\nagainst = "(.*)"', plan)
    return {method: paired(best(runs[other]), best(runs[method])) for method, other in pairs if method != other}


def figure_4():
    """Figure 4: G-SGD less SGD at every width in four settings, from the same skeleton-one start."""
    parts = {"[0, 1], lr 0.01": "unit-paper-lr", "standardised, lr 0.01": "standard-paper-lr",
             "[0, 1], lr tuned": "unit-tuned", "standardised, lr tuned": "standard-tuned"}
    pairs = {str(h): (f"h = {h}, sgd from skeleton one", f"h = {h}, g-sgd") for h in (8, 16, 32, 64, 128)}
    he = {"128: SGD from He less G-SGD": ("h = 128, g-sgd", "h = 128, sgd from he")}
    columns, losses = {}, []
    for title, name in parts.items():
        runs = load(f"fig4/{name}")
        for what, figure, digits in ("loss", "train_loss", 4), ("error", "test_error", 2):
            tests = {key: paired(*(best(runs[method], figure) for method in pair))
                     for key, pair in (pairs | he).items()}
            columns[f"{title}: {what}"] = {key: signed(test, digits) for key, test in tests.items()}
            losses += [tests[key] for key in pairs if what == "loss"]
    yield from table("h", columns)
    yield (f"lower in {sum(d < 0 for d, _ in losses)} of {len(losses)} settings, "
           f"in {sum(d < 0 and p < 0.05 for d, p in losses)} of them by more than noise")


def figure_5():
    """Figure 5: test errors by learning rate on MNIST, and by two rules that choose it."""
    runs = load("fig5/mnist")
    yield from rate_table({"": "fig5/mnist"}, "sgd")
    by_error = [min(((lr, at) for lr, at in rates.items() if not diverged(at)),
                    key=lambda item: mean(column(item[1], "validation_error"))) for rates in runs.values()]
    yield f"| by held back error | {' | '.join(f'{outcome(at)} at {rate(lr)}' for lr, at in by_error)} |"
    errors = dict(zip(runs, (column(at) for _, at in by_error)))
    behind = [errors.pop(method) for method in ("balanced-sgd", "g-sgd from skeleton one")]
    yield f"between {min(map(mean, errors.values())):.2f} and {max(map(mean, errors.values())):.2f} %"
    yield f"p = {short(max(paired(first, last)[1] for first in errors.values() for last in behind))} or less"
    yield "p = {} and {}".format(*(short(paired(errors[m], errors["g-adam"])[1]) for m in ("sgd", "momentum")))


def table_1():
    """Table 1: test errors of deep networks with batch norm, p against SGD from a He start."""
    parts = {f"CIFAR-{images}, {kind}": load(f"table1/cifar{images}-{name}") for images in (10, 100)
             for kind, name in (("plain", "plain"), ("residual", "resnet"))}
    yield from table("method", {title: {method: f"{mean(best(rates)):.2f}{tested(runs, method, 'sgd')}"
                                        for method, rates in runs.items()} for title, runs in parts.items()})
    he, one = ([paired(best(runs[base]), best(rates)) for runs in parts.values() for method, rates in runs.items()
                if method != base] for base in ("sgd", "sgd from skeleton one"))
    yield f"p = {short(min(p for _, p in he))} or more"
    yield " and ".join(signed(test) for test in one if test[1] < 0.05)


def overhead():
    """Overhead: milliseconds of a training step; the ratio to another method, with the p value of the difference."""
    columns, noise = {}, []
    for name in "mlp-49-64-64-10", "mlp-49-1024-1024-10", "plain-20", "resnet-20":
        times = {method: [1e3 * float(run["seconds"]) / int(run["steps"]) for run in chosen(rates)[1]]
                 for method, rates in load(f"overhead/{name}").items()}
        columns[name] = {method: f"{mean(own):.3g}" for method, own in times.items()}
        for method, own in times.items():
            if method in BASE:
                other = times[BASE[method]]
                columns[name][method] += f": {mean(own) / mean(other):.2f} ({short(paired(other, own)[1])})"
            noise.append(max(own) / min(own))
    yield from table("method", columns)
    yield f"{min(noise):.2f} to {max(noise):.2f} times"


def unbalanced():
    """Unbalanced starts: test error after units were rescaled by 10^U(-s, s), p against the weight-space form."""
    parts = {f"s = {s}": load(f"unbalanced/spread-{s}") for s in ("0", "0.5", "1", "1.5", "2")}

    def text(runs, method):
        dead = outcome(chosen(runs[method])[1]) == "dead"
        return "dead" if dead else spread(best(runs[method])) + tested(runs, method, BASE.get(method))

    yield from table("method", {title: {method: text(runs, method) for method in runs}
                                for title, runs in parts.items()})
    he = parts["s = 0"]
    for method in "adam", "momentum":
        sgd, ours = (short(paired(best(he[base]), best(he[method]))[1]) for base in ("sgd", "g-sgd"))
        yield f"p = {sgd} and {ours}"
    lost = (sum(map(diverged, parts["s = 2"][method].values())) for method in ("sgd", "momentum"))
    yield "{} of 30 runs of SGD and {} of 30 of momentum".format(*lost)


def front_page():
    """The table of README.md: test errors of two starts of one function."""
    starts = {"He start": load("unbalanced/spread-0"), "rescaled by 10^U(-2, 2)": load("unbalanced/spread-2")}
    methods = {"SGD": "sgd", "Adam": "adam", "Adam, balanced first": "adam, balanced first", "Path-SGD": "path-sgd",
               "G-SGD": "g-sgd", "G-momentum": "g-momentum", "G-Adam": "g-adam"}
    yield from table("test error %", {title: {start: f"{mean(best(runs[method])):.1f}" for start, runs in starts.items()}
                                      for title, method in methods.items()})


def conditions():
    """Conditions and forms: G form less weight-space form, first on the data where a difference was looked for."""
    fashion, mnist = differences("conditions/fashion"), differences("conditions/mnist")
    forms = {title: differences(f"conditions/forms-{name}") for title, name in
             (("Fashion-MNIST 7x7", "fashion-7x7"), ("MNIST", "mnist"), ("grey CIFAR-10", "cifar10-grey"))}

    def texts(parts):
        return {title: {method: signed(test) for method, test in tests.items()} for title, tests in parts.items()}

    yield from table("condition", texts({"Fashion-MNIST 7x7": fashion, "MNIST": mnist}),
                     [method for method, (_, p) in fashion.items() if p < 0.1 or method in mnist])
    ahead = [d < 0 for d, p in fashion.values() if p < 0.05]
    yield f"{len(ahead)} of {len(fashion)} differences are more than noise, {sum(ahead)} of them for the G form"
    sgd = [d < 0 for method, (d, _) in fashion.items() if method.startswith("g-sgd")]
    yield f"ahead of SGD in {sum(sgd)} of {len(sgd)} conditions"
    yield from table("form", texts(forms), forms["MNIST"])


def learning_rates():
    """Learning rates: the G methods and their weight-space forms by learning rate, p at the same rate."""
    names = {"grey CIFAR-10: ": "lr-cifar10-grey", "Fashion-MNIST: ": "lr-fashion-mnist", "MNIST: ": "forms-mnist"}
    names = {title: f"conditions/{name}" for title, name in names.items()}
    yield from rate_table(names, "momentum", ("momentum", "g-momentum"))
    for name in list(names.values())[:2]:
        runs = load(name)
        for method in "g-sgd", "g-adam":
            tests = {lr: paired(column(runs[BASE[method]][lr]), column(at)) for lr, at in runs[method].items()
                     if not diverged(at)}
            yield " and ".join(f"{signed(test)} at {rate(lr)}" for lr, test in tests.items() if test[1] < 0.05)


def others():
    """Skeletons, the ratio floor, signs, depth without batch norm, weight decay, and what makes G-momentum stable."""
    yield from method_table("skeletons/mlp", "largest, normalised")
    floors = load("floor")
    yield "{} of 5 runs diverge with 0.5, {} with 0.7 and {} with 0.8".format(
        *(diverged(floors[f"floor {floor}"][1.0]) for floor in (0.5, 0.7, 0.8)))
    yield from rate_table({"": "signs/mlp"}, "1")
    yield from method_table("plain20/final", "sgd")
    tune = [load("plain20/tune")[f"{method} from skeleton one"] for method in ("sgd", "g-sgd")]
    lost = {lr for rates in tune for lr, runs in rates.items() if diverged(runs)}
    yield f"diverge at all {len(lost)} rates from {rate(min(lost))} on"
    yield from rate_table({"": "fig7/cifar10-resnet"}, "sgd, none")[:3]
    yield from method_table("conditions/ablation", "momentum")


SECTIONS = [figure_4, figure_5, table_1, overhead, unbalanced, conditions, learning_rates, others]


def missing(page, lines):
    """The lines that are not rows of a page, or not in its prose."""
    text = page.read_text(encoding="utf-8")
    rows, prose = text.splitlines(), " ".join(text.split())
    return [f"not in {page.relative_to(RESULTS.parent)}: {line}" for line in lines
            if line not in (rows if line.startswith("|") else prose)]


def unknown(lines):
    """The table rows of the page that no section gives."""
    rows = (RESULTS / "README.md").read_text(encoding="utf-8").splitlines()
    own = [row for row in rows if row.startswith("|") and "](" not in row and not row.startswith("| claim |")]
    return [f"no section gives this row: {row}" for row in own if row not in lines]


def main():
    """Prints, or checks."""
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit("usage: tools/figures.py [--check]")
    sections = {section.__doc__: list(section()) for section in SECTIONS}
    if sys.argv[1:]:
        lines = [line for lines in sections.values() for line in lines]
        faults = missing(RESULTS / "README.md", lines) + unknown(lines)
        faults += missing(RESULTS.parent / "README.md", front_page())
        sys.exit("\n".join(faults) or None)
    for title, lines in {**sections, front_page.__doc__: front_page()}.items():
        print(f"\n{title}", *lines, sep="\n")


if __name__ == "__main__":
    main()
