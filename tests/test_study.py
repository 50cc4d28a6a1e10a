"Recipes by name, and studies: what is done isn't done again, and a stop loses nothing"
import json, os, signal, subprocess, sys, time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np, pytest
from fastai.callback.core import Callback
from PIL import Image
from cyclegan_fastai.experiment import recipe_dls, recipe_learner, run_experiment
from cyclegan_fastai.recipe import QUICK, RECIPES, STUDIES, Recipe, get_recipe
from cyclegan_fastai.seasons import seasons
from cyclegan_fastai.study import run_study, save_study, study_rows, study_table

def quiet(name, seed): return Callback()

@pytest.fixture(scope='module')
def handful(tmp_path_factory):
    "Eight small landscapes of each season"
    return seasons(n_train=8, n_test=8, size=32, seed=3, path=tmp_path_factory.mktemp('data')/'handful')

@pytest.fixture(scope='module')
def tiny(handful): return replace(QUICK, data=str(handful), size=32, epochs=1, decay_epochs=1, blocks=0, width=2, ema=0., fast=True)

# Recipes

@pytest.mark.parametrize('name', RECIPES)
def test_every_recipe_trains_on_a_handful(name, handful, tmp_path):
    "At its size, with its depth, batch and augmentation; on narrow networks"
    r = replace(RECIPES[name], data=str(handful), epochs=1, decay_epochs=0, width=2, bs=min(RECIPES[name].bs, 4))
    res = run_experiment(r, tmp_path/'run', device='cpu', cbs=Callback())
    assert len(res['history'])==1 and np.isfinite(res['history'][0]['valid_cycle_a'])
    assert Image.open(tmp_path/'run'/'sample_grid.png').height > 3*r.size and (tmp_path/'run'/'model.safetensors').exists()

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
from cyclegan_fastai.recipe import Recipe
from cyclegan_fastai.study import run_study
recipes = {k: Recipe(**o) for k,o in json.loads(sys.argv[1]).items()}
def started(name, seed): print(name, seed, flush=True); return Callback()
run_study(recipes, sys.argv[2], 2, False, 'cpu', started)
"""

def test_killed_it_goes_on_and_ends_the_same(tiny, tmp_path):
    recipes = {'a': tiny, 'consistency 1': replace(tiny, consistency=1.)}
    whole = run_study(recipes, tmp_path/'whole', 2, False, 'cpu', quiet)
    args = [sys.executable, '-W', 'ignore', '-c', _script, json.dumps({k: asdict(o) for k,o in recipes.items()}), str(tmp_path/'killed')]
    run = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
    for line in run.stdout:
        if line.startswith('consistency 1 42'):                                      # the first run is done, the second one begins
            while not (tmp_path/'killed'/'consistency-1-42'/'recipe.json').exists(): time.sleep(.02)
            run.kill(); break
    run.wait()
    assert run.returncode==-signal.SIGKILL
    assert study_rows(tmp_path/'killed').recipe.tolist()==['real']*2+['untranslated']*2+['a']*2
    again = subprocess.run(args, capture_output=True, text=True)
    assert again.returncode==0, again.stderr
    assert [o for o in again.stdout.splitlines() if o[-2:] in ('42','43')]==['consistency 1 42', 'a 43', 'consistency 1 43']
    same = ['recipe','seed','direction','kid','frechet','taken','cycle']
    assert study_rows(tmp_path/'killed')[same].equals(whole[same])

def test_table_and_files(tiny, tmp_path):
    import pandas as pd
    rows = run_study({'a': tiny}, tmp_path/'study', 2, False, 'cpu', quiet)
    table = study_table(rows)
    for d,o in rows[rows.recipe=='a'].groupby('direction'):
        found = table.loc[d,'a']
        assert found.runs==2 and found.kid==pytest.approx(o.kid.mean()) and found.kid_sd==pytest.approx(o.kid.std())
        assert table.loc[d].index.tolist()==['real','untranslated','a'] and np.isnan(table.loc[d,'real'].kid_sd)
    save_study(rows, tmp_path/'study')
    assert pd.read_csv(tmp_path/'study'/'study.csv').kid.tolist()==pytest.approx(rows.kid.tolist()) and Image.open(tmp_path/'study'/'study.png').width > 900

def test_command_line(handful, tmp_path):
    def sh(*args): return subprocess.run([sys.executable, '-m', 'cyclegan_fastai.cli', *args], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, 'COLUMNS': '160', 'TERM': 'dumb'})
    res = sh('study', 'yosemit')
    assert res.returncode==2 and "`name` must be 'yosemite', 'yosemite-quick' or 'horse2zebra', got 'yosemit'" in res.stderr
    res = sh('study', 'yosemite-quick', '--data', str(handful), '--epochs', '1', '--decay-epochs', '0', '--seeds', '1', '--no-upit', '--device', 'cpu', '--out', 's')
    assert res.returncode==0, res.stderr
    for o in ('as it is', 'consistency 1', 'identity 0', 'no averages', 'full augmentation', 'up resize', 'untranslated', 's/study.png'): assert o in res.stdout
    assert (tmp_path/'s'/'study.png').exists() and len(list((tmp_path/'s').glob('*-42/model.safetensors')))==6
