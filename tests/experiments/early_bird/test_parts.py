"""Rules, costs, masks and scores, against numbers worked out apart from the code."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.data import epoch_order
from experiments.early_bird._config import PRESETS, EarlyBirdConfig
from experiments.early_bird._draw import by_scales, spare_layers
from experiments.early_bird._measures import best_epoch
from experiments.early_bird._setup import Setup
from experiments.early_bird._trials import RULES, Trial, training_cost
from experiments.training import order_key
from wormjax import structure

CONFIG = EarlyBirdConfig(
    model="digits_mlp",
    limit=64,
    epochs=4,
    window=2,
    prune_ratios=(0.3, 0.6),
    draw_epochs=(1,),
    driver="loop",
)


@pytest.fixture(scope="module")
def setup():
    return Setup(CONFIG)


@pytest.mark.parametrize(("pruned", "printed"), [(1165.73, 1177.15), (909.76, 952.46)])
def test_o_f4_training_cost_of_resnet18_tickets(pruned, printed):
    """P-FLOPs of 90 epochs dense, pruned, and with the draw at epoch 11."""
    cost = training_cost(1259.13 / 90, pruned / 90, drawn_at=11, start=11, epochs=90)
    assert f"{cost:.2f}" == f"{printed}"


def test_o_f3_snip_and_lottery_ticket_of_vgg16_in_the_papers_units():
    """Unstructured, they cost what dense training costs: 302 and 605 units of 0.05 P."""
    epoch = 3 * 627447908 * 50_000 / 0.05e15
    snip, lottery = Trial("snip", 0.5), Trial("one_shot", 0.5)
    [at] = snip.drawn_at([None], 160)
    units = training_cost(epoch, epoch, at, snip.start(at), 160)
    assert units == pytest.approx(301.2, abs=0.05)
    [at] = lottery.drawn_at([None], 160)
    assert training_cost(epoch, epoch, at, lottery.start(at), 160) == pytest.approx(2 * units)


def test_eb_d4_the_best_epoch_is_chosen_by_validation_alone():
    """The reference keeps the checkpoint that is best on the test split."""
    records = [
        {"epoch": e, "validation_accuracy": v, "test_accuracy": t}
        for e, v, t in ((1, 0.5, 0.9), (2, 0.7, 0.1), (3, 0.7, 0.8), (4, 0.6, 1.0))
    ]
    assert best_epoch(records)["epoch"] == 2
    for record in records:
        record["test_accuracy"] = 1 - record["test_accuracy"]
    assert best_epoch(records)["epoch"] == 2


def test_where_tickets_come_from():
    assert Trial("inherit", 0.5).drawn_at([7, None], 160) == [7, None]
    assert Trial("network_slimming", 0.5).drawn_at([7, None], 160) == [160, 160]
    assert Trial("draw", 0.5, 20).drawn_at([7, None], 160) == [20, 20]
    assert (Trial("draw", 0.5, 20).name, Trial("snip", 0.3).name) == ("draw20-0.5", "snip-0.3")
    assert {m for m, rule in RULES.items() if rule.weights == "fresh"} == {
        "reinit",
        "reinit_at_neb",
    }


def test_an_emptied_layer_keeps_its_best_channel():
    flat = np.array([0, 0, 1, 0, 0, 0], bool)
    drawn = spare_layers(flat, np.array([0.1, 0.3, 0.9, 0.2, 0.2, 0.1]), [0, 2, 3, 6])
    assert drawn.flat.tolist() == [False, True, True, True, False, False]
    assert drawn.spared == 2
    assert flat.sum() == 1  # not written into


def test_eb_d2_later_layers_of_an_emptied_one_are_slices(setup):
    """The reference skips the empty layer and copies nothing that lies behind it."""
    params, stats = jax.tree.map(lambda x: x[0], setup.initial([0]))
    scale = np.linspace(0.1, 1, 64).astype(np.float32)
    params["layers"][0]["norm"]["scale"] = jax.numpy.asarray(scale)
    mask = np.concatenate([np.zeros(64, bool), np.arange(64) % 2 == 0])
    drawn = by_scales(setup, mask, params)
    assert drawn.flat[:64].tolist() == [False] * 63 + [True]
    masks = setup.mask_tree(drawn.flat)
    ticket = structure.shrink(structure.plan(setup.groups, masks=masks), params, stats)
    small = ticket.params["layers"]
    full = np.asarray(params["layers"][1]["dense"]["kernel"])
    np.testing.assert_array_equal(small[1]["dense"]["kernel"], full[63:, ::2])
    head = np.asarray(params["head"]["kernel"])
    np.testing.assert_array_equal(ticket.params["head"]["kernel"], head[::2])
    cost = setup.cost(drawn.flat)
    assert cost.macs == 64 * 1 + 1 * 32 + 32 * 10
    assert cost.parameters == sum(x.size for x in jax.tree.leaves(ticket.params))


def test_other_weights_are_others_and_the_same_each_time(setup):
    (initial, _), (fresh, _), (again, _) = (
        setup.initial([0, 1]),
        setup.initial([0, 1], fresh=True),
        setup.initial([0, 1], fresh=True),
    )
    kernel = [np.asarray(p["layers"][0]["dense"]["kernel"]) for p in (initial, fresh, again)]
    np.testing.assert_array_equal(kernel[1], kernel[2])
    assert abs(np.corrcoef(kernel[0].ravel(), kernel[1].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(kernel[1][0].ravel(), kernel[1][1].ravel())[0, 1]) < 0.05
    np.testing.assert_allclose(kernel[0].std(), kernel[1].std(), rtol=0.05)


def loss_of(params, gates, images, labels):
    """The network in training mode, in float64, a gate on every channel's scale."""
    x = images.reshape(len(images), -1)
    for layer, gate in zip(params["layers"].values(), gates, strict=True):
        x = x @ np.asarray(layer["dense"]["kernel"], np.float64)
        x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
        x = np.maximum(x * gate * np.asarray(layer["norm"]["scale"], np.float64), 0)
    z = x @ np.asarray(params["head"]["kernel"], np.float64)
    z -= z.max(1, keepdims=True)
    return (np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), labels]).mean()


def test_channels_are_scored_by_what_their_gate_does_to_the_loss(setup):
    key = jax.random.key(0)
    params, stats = setup.initial([0])
    scores, masks = jax.device_get(setup.sensitivity(params, stats, key[None]))
    rows = epoch_order(order_key(key), 0, size=64, batch=32)[0]
    images, labels = (np.asarray(x[rows]) for x in setup.train)
    prepared = np.asarray(setup.prepare(images), np.float64)
    one = jax.tree.map(lambda x: np.asarray(x[0]), params)
    for channel in (0, 17, 64, 100):
        loss = []
        for step in (1e-4, -1e-4):
            gates = np.ones((2, 64))
            gates[channel // 64, channel % 64] += step
            loss.append(loss_of(one, gates, prepared, labels))
        want = abs(loss[0] - loss[1]) / 2e-4
        assert scores[0, channel] == pytest.approx(want, rel=0.02, abs=1e-6)
    for mask, kept in zip(masks[0], (128 - 38, 128 - 76), strict=True):
        assert mask.sum() == kept == np.count_nonzero(scores[0] >= np.sort(scores[0])[-kept])
        assert scores[0][mask].min() >= scores[0][~mask].max()


@pytest.mark.parametrize("name", ["cifar10_early_bird", "cifar10_early_bird_preresnet"])
def test_presets_are_the_papers_recipe(name):
    config = PRESETS[name]
    assert (config.epochs, config.batch_size, config.milestones) == (160, 256, (80, 120))
    assert (config.l1, config.weight_decay, config.scale_init) == (1e-4, 1e-4, 0.5)
    assert (config.window, config.epsilon, config.augment) == (5, 0.1, True)
    assert config.prune_ratios == (0.3, 0.5, 0.7)
    assert config.recipe.schedule(10)(1000) == np.float32(0.01)  # EB-D5
    assert len(config.trials) == 3 * (7 + 13)


def test_every_preset_can_be_asked_for_everything():
    for config in PRESETS.values():
        assert dataclasses.replace(config, seeds=5).seed_numbers == [0, 1, 2, 3, 4]
        assert len({trial.name for trial in config.trials}) == len(config.trials)
