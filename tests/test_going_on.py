"A run that was stopped ends as if it had never been: with each setting of a recipe, with workers, from an old version"
import json, shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest, torch
from fastai.vision.all import Callback, noop

from cyclegan_fastai.data.seasons import seasons
from cyclegan_fastai.run.checkpoints import KeepRun
from cyclegan_fastai.run.experiment import open_run, recipe_learner, run_experiment, train_run
from cyclegan_fastai.run.recipe import Recipe, load_recipe

class Stop(Callback):
    "Ctrl-C at a batch"
    order = 1000                                                                   # after what saves
    def __init__(self, at): self.at = at
    def after_batch(self):
        if self.training and self.train_iter==self.at: raise KeyboardInterrupt

@pytest.fixture(scope='module')
def data(tmp_path_factory): return seasons(n_train=6, n_test=4, size=24, path=tmp_path_factory.mktemp('data')/'seasons')

@pytest.fixture(scope='module')
def tiny(data): return Recipe(data=str(data), size=24, epochs=1, decay_epochs=1, bs=2, blocks=0, width=1, augment='flip', ema=.9)

def go(recipe, out, resume=False, workers=0, cb=None):
    "What `run_experiment` does, without pictures and judges; the losses of its epochs"
    learn = open_run(recipe, out, resume, 'cpu', workers)
    train_run(learn, recipe, out, resume, KeepRun(out, 1, [], 0, noop), [cb or Callback()])
    return learn.loss_terms.history

def same_end(recipe, tmp_path, at, workers=0):
    "Train `recipe`, stop it at batch `at` and go on; compare with a run that nothing stopped: weights and losses, bit for bit"
    whole = go(recipe, tmp_path/'whole', workers=workers)
    with pytest.raises(BaseException): go(recipe, tmp_path/'run', workers=workers, cb=Stop(at))
    found = go(load_recipe(tmp_path/'run'), tmp_path/'run', True, workers)
    assert json.dumps(found)==json.dumps(whole)
    a, b = (torch.load(tmp_path/o/'last.pth', weights_only=False)['model'] for o in ('whole','run'))
    assert a.keys()==b.keys() and all(torch.equal(a[k], b[k]) for k in a)

# For each setting another value than the tiny recipe's, which can be trained on a CPU; None: no part of training
other = dict(data=None, size=28, first_size=dict(size=28, first_size=24), epochs=2, decay_epochs=2, bs=1, generator='residual', critic='lite1',
    augmented=True, blocks=1, width=2, lr=1e-3, adversarial='wasserstein', cycle=1., identity=.5, consistency=1., dropout=dict(dropout=.5, blocks=1),
    up='resize', ema=0., augment='full', value_range='0,255', seed=7, damaged='skip', deterministic=True, fast=True, valid_pct=.5)

@pytest.mark.parametrize('name', [o.name for o in fields(Recipe) if other.get(o.name, '') is not None])
def test_each_setting(name, tiny, tmp_path):
    change = other[name]                                                           # a new setting needs a value here
    deterministic = torch.are_deterministic_algorithms_enabled()
    try: same_end(replace(tiny, **(change if isinstance(change, dict) else {name: change})), tmp_path, at=4)
    finally: torch.use_deterministic_algorithms(deterministic)

@pytest.mark.parametrize('at', [1,3,6])
def test_at_before_and_after_the_end_of_an_epoch(at, tiny, tmp_path):
    "An epoch has three batches"
    same_end(replace(tiny, augment='full'), tmp_path, at)

def test_with_two_workers(tiny, tmp_path): same_end(replace(tiny, augment='full'), tmp_path, 4, workers=2)

def test_elsewhere(tiny, tmp_path, capsys):
    "A checkpoint says where it was made: by more processes it is refused, within an epoch by `load`, too; on another device it is said"
    with pytest.raises(BaseException): go(tiny, tmp_path, cb=Stop(2))
    state = torch.load(file := tmp_path/'last.pth', weights_only=False)
    assert state['place']==dict(processes=1, device='cpu') and state['midway']
    torch.save({**state, 'place': dict(processes=2, device='cpu')}, file)
    with pytest.raises(ValueError, match='saved by 2 processes, and 1 would go on'): go(tiny, tmp_path, resume=True)
    learn = recipe_learner(tiny, tmp_path, 'cpu').load('last')
    with pytest.raises(ValueError, match='saved by 2 processes, and 1 would go on'): learn.fit(2)
    torch.save({**state, 'place': dict(processes=1, device='cuda')}, file)
    capsys.readouterr()
    go(tiny, tmp_path, resume=True)
    assert 'trained on cuda and goes on on cpu' in capsys.readouterr().out

kept = Path(__file__).parent/'kept'

def test_a_run_of_version_0_1_0_goes_on(tmp_path, monkeypatch):
    "It was stopped after the first of two epochs; beside it the losses of the same run, by that version, to its end"
    monkeypatch.chdir(tmp_path)
    seasons(n_train=4, n_test=4, size=24, path='data')
    shutil.copytree(kept/'run-0.1.0', 'run')
    found = run_experiment(load_recipe('run'), 'run', resume=True, device='cpu', cbs=Callback())['history']
    for row,before in zip(found, json.loads(Path('run/history.json').read_text()), strict=True):
        for k,v in before.items(): assert row[k]==pytest.approx(v, rel=1e-4), k

def test_ten_steps_as_ever(tiny, monkeypatch, tmp_path):
    "What a dependency moves, however little, is seen here; a change of ours that is meant to move it makes the file anew"
    losses = []
    class Keep(Callback):
        def after_batch(self): losses.append(self.loss.item())
    recipe = replace(tiny, augment='full', blocks=1, width=4, bs=1)
    recipe_learner(recipe, tmp_path, 'cpu').fit(2, cbs=Keep())
    file = kept/'ten_steps.json'
    assert losses[:10]==pytest.approx(json.loads(file.read_text()), rel=1e-4), [round(o, 6) for o in losses[:10]]
