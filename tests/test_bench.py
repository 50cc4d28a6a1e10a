"The benchmark: all sides do the same work on the same files, and the command says what it found"
import importlib.metadata, json, statistics, sys

import pytest
from typer.testing import CliRunner

from cyclegan_fastai.bench import SIDES, UPIT, Clock, Ours, Plain, replace
from cyclegan_fastai.cli import app
from cyclegan_fastai.experiment import recipe_dls
from cyclegan_fastai.recipe import QUICK
from cyclegan_fastai.seasons import seasons

try: has_upit = importlib.metadata.version('upit')==UPIT
except importlib.metadata.PackageNotFoundError: has_upit = False
small = '--size 32 --blocks 1 --width 4 --bs 2 --device cpu --json'.split()

@pytest.fixture
def run(tmp_path, monkeypatch):
    "The command, on a few small drawn landscapes"
    import cyclegan_fastai.experiment as experiment
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, 'seasons', lambda size: seasons(n_train=8, n_test=8, size=size, path=tmp_path/f'seasons{size}'))
    def go(*args):
        res = CliRunner().invoke(app, ['bench', *map(str, args)])
        return res.exit_code, res.output, res.exception
    return go

def test_speed_of_each_side(run):
    code, out, e = run(*small, '--rounds', 3, '--steps', 2)
    assert code==0, e
    res = json.loads(out[out.index('{'):])
    assert [o['side'] for o in res['rows']]==[o.name for o in SIDES]
    assert res['about']['rounds']==3 and res['about']['size']==32 and {'torch','fastai','python'} < res['about']['versions'].keys()
    for o in res['rows']:
        if o['side'].startswith('UPIT') and not has_upit: assert f'pip install --no-deps upit=={UPIT}' in o['problem']; continue
        speeds = o['pairs_per_second']
        assert len(speeds)==3 and 0 < o['min']==min(speeds) <= o['median']==statistics.median(speeds) <= max(speeds)==o['max']
    plain = res['rows'][1]
    assert plain['to_plain']==dict(median=1., min=1., max=1.)
    ratios = [a/b for a,b in zip(res['rows'][0]['pairs_per_second'], plain['pairs_per_second'])]
    assert res['rows'][0]['to_plain']['median']==pytest.approx(statistics.median(ratios)), 'ratios are taken within a round'

def test_quality_of_each_side(run):
    code, out, e = run(*small, '--quality', '--epochs', 2)
    assert code==0, e
    rows = json.loads(out[out.index('{'):])['rows']
    assert [o['side'] for o in rows[:4]]==['untranslated', 'colour transfer', Ours.name, Plain.name]
    for o in rows[:4]:
        assert set(o['scores'])=={'summer → winter', 'winter → summer'} and all(5 < v['psnr'] < 40 for v in o['scores'].values())

@pytest.mark.parametrize('args,name', [(['--rounds', 0], '`rounds`'), (['--steps', 0], '`steps`'), (['--bs', 9], '`bs`'), (['--size', 30], '`size`'),
    (['--quality', '--seeds', 0], '`seeds`'), (['--device', 'abacus'], '`device`')])
def test_bad_options_are_named(run, args, name):
    code, _, e = run(*args)
    assert code and name in str(e)

def test_the_clock_counts_training_steps_alone(tmp_path):
    path = seasons(n_train=8, n_test=2, size=32, path=tmp_path/'seasons')
    side = Ours(replace(QUICK, data=str(path), size=32, blocks=1, width=4, bs=2), recipe_dls(replace(QUICK, data=str(path), size=32, bs=2), 'cpu'))
    clock = Clock(5, warm=2)                                            # over the end of an epoch of four steps
    with side.learn.no_bar(), side.learn.no_logging(): side.learn.fit(2, cbs=clock)
    assert clock.done==7 and clock.seconds > 0
