"Recipes by name, and studies: what is done isn't done again, and a stop loses nothing"
import json, os, shutil, signal, subprocess, sys, time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np, pytest
from fastai.callback.core import Callback
from PIL import Image
from cyclegan_fastai.run import experiment
from cyclegan_fastai.run.experiment import evaluate_run, recipe_dls, recipe_learner, run_experiment
from cyclegan_fastai.run.recipe import SMALL, RECIPES, STUDIES, Recipe, get_recipe
from cyclegan_fastai.data.seasons import seasons
from cyclegan_fastai.run.study import run_study, save_study, study_rows, study_table

def quiet(name, seed): return Callback()

@pytest.fixture(scope='module')
def handful(tmp_path_factory):
    "Eight small landscapes of each season"
    return seasons(n_train=8, n_test=8, size=32, seed=3, path=tmp_path_factory.mktemp('data')/'handful')

@pytest.fixture(scope='module')
def tiny(handful): return replace(SMALL, data=str(handful), size=32, epochs=1, decay_epochs=1, blocks=0, width=2, ema=0., fast=True)

@pytest.fixture(scope='module')
def two(tiny): return {'a': tiny, 'consistency 1': replace(tiny, consistency=1.)}

@pytest.fixture(scope='module')
def done(two, tmp_path_factory):
    "A study of two recipes with two seeds, and its rows; not to be changed"
    out = tmp_path_factory.mktemp('done')/'study'
    return out, run_study(two, out, 2, False, 'cpu', quiet)

# Recipes

@pytest.mark.parametrize('name', RECIPES)
def test_every_recipe_trains_on_a_handful(name, handful, tmp_path):
    "At its size, with its depth, batch and augmentation; on narrow networks"
    r = RECIPES[name]
    r = replace(r, data=str(handful), epochs=1, decay_epochs=int(r.first_size>0), width=2, bs=min(r.bs, 4))
    res = run_experiment(r, tmp_path/'run', device='cpu', cbs=Callback())
    assert len(res['history'])==1+r.decay_epochs and np.isfinite(res['history'][0]['valid_cycle_a'])
    assert Image.open(tmp_path/'run'/'sample_grid.png').height > 3*r.size and (tmp_path/'run'/'model.safetensors').exists()

def test_data_by_a_path(handful):
    assert Recipe(data=handful)==Recipe(data=str(handful)) and Recipe(data='http://x//y').data=='http://x//y'

def test_published_settings():
    y = get_recipe('yosemite')
    assert (y.size, y.blocks, y.width, y.bs, y.lr, y.identity, y.epochs, y.decay_epochs, y.augment)==(64, 6, 64, 1, 2e-4, 5., 100, 100, 'full')
    assert get_recipe('apple2orange').identity==0 and get_recipe('monet2photo').identity==5 and get_recipe('monet2photo').blocks==9

def test_crop_enlarges_and_cuts(handful):
    "As the horses and zebras: 144 → 128"
    r = replace(RECIPES['horse2zebra'], data=str(handful), bs=2)
    dls = recipe_dls(r, 'cpu')
    assert [o.sizes for o in dls.train.after_item.fs if hasattr(o, 'sizes')]==[((144,144), (128,128))]
    assert dls.train.one_batch()[0].shape==(2,3,128,128) and dls.valid.one_batch()[0].shape[2:]==(128,128)

def test_networks_and_weights_arrive(tiny, tmp_path):
    learn = recipe_learner(replace(tiny, consistency=.5, dropout=.25, up='resize', blocks=1), tmp_path, 'cpu')
    assert learn.model.weights['consistency']==.5
    assert [m.p for m in learn.model.generator_a2b.modules() if type(m).__name__=='Dropout']==[.25]
    assert {o.arch['up'] for o in (learn.model.generator_a2b, learn.model.generator_b2a)}=={'resize'}

@pytest.mark.parametrize('name', STUDIES)
def test_a_study_changes_one_thing_at_a_time(name):
    recipes = dict(STUDIES[name])
    base = asdict(recipes['as it is'])
    for k,o in recipes.items():
        changed = {f for f,v in asdict(o).items() if v!=base[f]}
        assert len(changed)=={'as it is': 0, 'both': 2}.get(k, 1) or k=='published', (k, changed)

# Studies

def test_upit_takes_part(tiny, tmp_path):
    pytest.importorskip('upit', reason='UPIT is not installed: pip install --no-deps upit==0.2.2')
    rows = run_study({'as it is': tiny}, tmp_path/'study', 1, True, 'cpu', quiet)
    upit = rows[rows.recipe=='UPIT 0.2.2']
    assert len(upit)==2 and np.isfinite(upit[['kid','frechet','taken','cycle','minutes']].to_numpy()).all()
    begun = {o: o.stat().st_mtime_ns for o in (tmp_path/'study').rglob('*.json') if o.name!='study.json'}
    assert run_study({'as it is': tiny}, tmp_path/'study', 1, True, 'cpu', quiet).equals(rows)
    assert {o: o.stat().st_mtime_ns for o in begun}==begun

_script = """
import sys, json
from fastai.callback.core import Callback
from cyclegan_fastai.run.recipe import Recipe
from cyclegan_fastai.run.study import run_study
recipes = {k: Recipe(**o) for k,o in json.loads(sys.argv[1]).items()}
def started(name, seed): print(name, seed, flush=True); return Callback()
run_study(recipes, sys.argv[2], 2, False, 'cpu', started)
"""

def test_killed_it_goes_on_and_ends_the_same(two, tmp_path):
    "As a study that nothing stopped, in a process of the same kind"
    args = [sys.executable, '-W', 'ignore', '-c', _script, json.dumps({k: asdict(o) for k,o in two.items()}), str(tmp_path/'killed')]
    straight = subprocess.Popen([*args[:-1], str(tmp_path/'straight')], stdout=subprocess.DEVNULL)
    run = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
    for line in run.stdout:
        if line.startswith('consistency 1 42'):                                      # the first run is done, the second one begins
            while not (tmp_path/'killed'/'consistency-1-42'/'recipe.json').exists(): time.sleep(.02)
            run.kill(); break
    run.wait()
    assert run.returncode==-signal.SIGKILL
    assert study_rows(tmp_path/'killed').recipe.tolist()==['real']*2+['untranslated']*2+['colours']*2+['a']*2
    again = subprocess.run(args, capture_output=True, text=True)
    assert again.returncode==0, again.stderr
    assert [o for o in again.stdout.splitlines() if o[-2:] in ('42','43')]==['consistency 1 42', 'a 43', 'consistency 1 43']
    assert straight.wait()==0
    same = ['recipe','seed','direction','kid','frechet','taken','cycle']
    assert study_rows(tmp_path/'killed')[same].equals(study_rows(tmp_path/'straight')[same])

class Diverge(Callback):
    "Not a number, from the first batch on"
    def after_batch(self):
        if self.training: next(self.learn.model.parameters()).data.fill_(float('nan'))

@pytest.mark.filterwarnings('ignore:bad')
def test_a_run_that_diverges_ends_no_study(tiny, tmp_path):
    recipes = {'bad': replace(tiny, seed=7), 'a': tiny}
    started = lambda name, seed: Diverge() if name=='bad' else Callback()
    rows = run_study(recipes, tmp_path/'study', 1, False, 'cpu', started)
    assert rows[rows.recipe=='a'].kid.notna().all() and len(rows[rows.recipe=='a'])==2 and rows[rows.recipe=='bad'].kid.isna().all()
    table = study_table(rows).reset_index().set_index('recipe')
    assert table.loc['bad', ['runs','failed']].values.tolist()==[[0,1]]*2 and table.loc['a', ['runs','failed']].values.tolist()==[[1,0]]*2
    assert run_study(recipes, tmp_path/'study', 1, False, 'cpu', lambda *args: pytest.fail('again')).equals(rows)
    assert save_study(rows, tmp_path/'study')

def test_what_was_judged_stays_so(tiny, done, tmp_path):
    "Whatever `evaluate` says later of a run, and whatever is added to the study, or refused"
    rows = done[1]
    shutil.copytree(done[0], tmp_path/'study')
    evaluate_run(tmp_path/'study'/'a-42', n=4, device='cpu')
    with pytest.raises(ValueError, match='another recipe.*its `epochs` is 1, not 50'): run_study({'c': tiny, 'a': replace(tiny, epochs=50)}, tmp_path/'study', 1, False, 'cpu', quiet)
    assert study_rows(tmp_path/'study').equals(rows)
    (tmp_path/'study'/'a-old').mkdir()
    more = run_study({'c': tiny}, tmp_path/'study', 1, False, 'cpu', quiet)
    assert more.recipe.tolist()==['real']*2+['untranslated']*2+['colours']*2+['a']*4+['consistency 1']*4+['c']*2 and more[:14].equals(rows)

def test_evaluated_but_not_trained_to_the_end(tiny, tmp_path):
    folder = tmp_path/'study'/'a-42'
    class Stop(Callback):
        order = 1000
        def before_epoch(self):
            if self.epoch==1: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): run_study({'a': tiny}, tmp_path/'study', 1, False, 'cpu', lambda *args: Stop())
    evaluate_run(folder, device='cpu')
    assert len(run_study({'a': tiny}, tmp_path/'study', 1, False, 'cpu', quiet))==8
    assert len(json.loads((folder/'metrics.json').read_text())['history'])==2

@pytest.mark.parametrize('names', [['λ=1','μ=1'], ['a b','A-b'], ['λ'], ['UPIT 0.2.2']])
def test_names_that_make_no_folders(names, tiny, tmp_path):
    with pytest.raises(ValueError, match='`recipes` need names'): run_study({o: tiny for o in names}, tmp_path/'study', 1, False, 'cpu')
    assert not (tmp_path/'study').exists()

def test_time_of_the_last_sitting_is_of_its_pairs(tiny, tmp_path, monkeypatch):
    "Stopped in the middle of the second of two epochs"
    class Stop(Callback):
        order = 1000
        def after_batch(self):
            if self.training and (self.epoch, self.iter)==(1,0): raise KeyboardInterrupt
    tiny,seen = replace(tiny, bs=4),[]
    with pytest.raises(KeyboardInterrupt): run_experiment(tiny, tmp_path/'run', device='cpu', save_every=1, cbs=Stop())
    finish = experiment.finish_run
    monkeypatch.setattr(experiment, 'finish_run', lambda *args: seen.append(args[-1]) or finish(*args))
    run_experiment(tiny, tmp_path/'run', True, 'cpu', cbs=Callback())
    assert seen==[.5]

def test_table_and_files(done, tmp_path):
    import pandas as pd
    rows = done[1]
    table = study_table(rows)
    for d,o in rows[rows.recipe=='a'].groupby('direction'):
        found = table.loc[d,'a']
        assert found.runs==2 and found.kid==pytest.approx(o.kid.mean()) and found.kid_sd==pytest.approx(o.kid.std())
        assert table.loc[d].index.tolist()==['real','untranslated','colours','a','consistency 1'] and np.isnan(table.loc[d,'real'].kid_sd)
    save_study(rows, tmp_path)
    assert pd.read_csv(tmp_path/'study.csv').kid.tolist()==pytest.approx(rows.kid.tolist()) and Image.open(tmp_path/'study.png').width > 900

def test_command_line(handful, tmp_path):
    def sh(*args): return subprocess.run([sys.executable, '-m', 'cyclegan_fastai.cli', *args], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, 'COLUMNS': '160', 'TERM': 'dumb'})
    res = sh('study', 'yosemit')
    assert res.returncode==2 and "`name` must be 'yosemite', 'yosemite-small', 'horse2zebra' or 'pretrained', got 'yosemit'" in res.stderr
    res = sh('study', 'yosemite-small', '--data', str(handful), '--epochs', '1', '--decay-epochs', '0', '--seeds', '1', '--no-upit', '--device', 'cpu', '--out', 's')
    assert res.returncode==0, res.stderr
    for o in ('as it is', 'consistency 1', 'identity 0', 'no averages', 'full augmentation', 'up resize', 'untranslated', 's/study.png'): assert o in res.stdout
    assert (tmp_path/'s'/'study.png').exists() and len(list((tmp_path/'s').glob('*-42/model.safetensors')))==6
