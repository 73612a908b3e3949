"""The README's promises: its example runs as written, its commands and pictures are there."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import wormjax as wj

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_first_example_prints_what_it_shows(capsys):
    example = blocks("python")[0]
    with jax.numpy_rank_promotion("allow"):  # as users have it
        exec(compile(example, "example.py", "exec"), {})
    [shown] = re.findall(r"```\n\n```\n(group .*?)```", README, re.DOTALL)
    assert capsys.readouterr().out == shown


def test_the_example_draws_a_ticket_as_written():
    example = blocks("python")[1]
    params = {
        "bn": {"scale": jnp.linspace(0.1, 1.0, 10), "bias": jnp.zeros(10)},
        "conv": {"kernel": jnp.ones((3, 10))},
    }
    epochs = []

    def train_epoch(params, opt_state):
        # a few steps of a fixed gradient: the ranking of the scales does not change
        epochs.append(1)
        grads = jax.tree.map(jnp.ones_like, params)
        updates, opt_state = names["tx"].update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    names = {"params": params, "train_epoch": train_epoch}
    exec(compile(example, "README.md", "exec"), names)

    # five masks in the window, and a ranking by magnitude that the steps turn
    assert 4 <= len(epochs) < 100
    ticket = names["ticket"]
    scales = names["params"]["bn"]["scale"]
    kept = ticket["bn"]["scale"] != 0
    assert int(kept.sum()) == 5
    assert jnp.abs(scales)[kept].min() >= jnp.abs(scales)[~kept].max()
    assert bool((ticket["conv"]["kernel"] == names["params"]["conv"]["kernel"]).all())


def test_the_example_trains_a_sparse_network_as_written():
    example = blocks("python")[2]
    params = {"dense": {"kernel": jnp.ones((20, 10)), "bias": jnp.zeros(10)}}
    grads = jax.tree.map(jnp.ones_like, params)
    names = {"jax": jax, "optax": optax, "wj": wj, "params": params, "grads": grads}
    with jax.numpy_dtype_promotion("standard"):  # optax's AdamW needs it
        exec(compile(example, "README.md", "exec"), names)
    assert int((names["params"]["dense"]["kernel"] != 0).sum()) == 20
    assert bool((names["params"]["dense"]["bias"] != 0).all())


def test_the_example_shrinks_saves_and_loads_as_written(tmp_path, monkeypatch, capsys):
    example = blocks("python")[3]
    params = {
        "conv": {"kernel": jnp.ones((3, 10)) * jnp.arange(1.0, 11)[None]},
        "bn": {"scale": jnp.linspace(0.1, 1.0, 10), "bias": jnp.zeros(10)},
        "head": {"kernel": jnp.ones((10, 2))},
    }
    stats = {"mean": jnp.full(10, 0.5)}

    def apply(params, stats, x):
        x = (x @ params["conv"]["kernel"] - stats["mean"][None]) * params["bn"]["scale"][None]
        return jax.nn.relu(x + params["bn"]["bias"][None]) @ params["head"]["kernel"], stats

    masks = jax.tree.map(lambda _: jnp.array(True), params)
    masks["bn"]["scale"] = masks["bn"]["bias"] = jnp.arange(10) % 2 == 0
    tx = optax.sgd(0.1, momentum=0.9)
    images = jnp.ones((4, 3))
    names = {
        "apply": apply,
        "params": params,
        "stats": stats,
        "images": images,
        "masks": masks,
        "tx": tx,
        "opt_state": tx.init(params),
    }
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), names)

    told = capsys.readouterr().out
    assert "bn/scale" in told
    assert "exact" in told
    want, _ = apply(wj.apply_masks(params, masks), stats, images)
    ticket = names["ticket"]
    assert ticket.params["conv"]["kernel"].shape == (3, 5)
    for got in (names["logits"], ticket.apply(ticket.params, ticket.state, images)[0]):
        assert jnp.allclose(got, want)


def test_the_example_of_other_tickets_runs_as_written(capsys):
    example = blocks("python")[4]
    names = {}
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        exec(compile(example, "README.md", "exec"), names)

    told = capsys.readouterr().out
    assert "'blocks/0', 'blocks/1', 'blocks/2'] -> " in told
    kept = sum(int(m.sum()) for m in jax.tree.leaves(names["pruned"].masks))
    assert kept == 663  # of 6,624, rounded up
    assert len(names["found"]) == 3
    assert names["small"].apply(names["small"].params, names["x"]).shape == (32, 10)
    params, masks = names["params"], names["regrouped"].masks
    want = names["apply"](wj.apply_masks(params, masks), names["x"])
    assert jnp.allclose(names["logits"], want, atol=1e-5)
    assert names["regrouped"].executed_density < 1


def test_it_opens_with_two_commands_and_ci_finds_the_second():
    first, second = blocks("bash")
    assert "experiments.worm" in first
    assert "pytest" in second
    assert first.splitlines()[0].replace("experiments", "dev") == second.splitlines()[0]
    assert README.index("<!-- test command -->\n```bash\n" + second) > README.index(first)


def test_every_picture_and_file_that_it_names_is_there():
    named = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert {"docs/mask_distance.png", "CHANGELOG.md"} <= set(named)
    for name in named:
        assert (ROOT / name).is_file(), name


def test_every_public_name_that_it_uses_exists():
    named = set(re.findall(r"\bwj\.(\w+)", README))
    assert {"worm", "detect", "top_masks"} <= named
    for name in named:
        assert name in wj.__all__, name
