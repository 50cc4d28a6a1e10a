"The benchmark: all sides do the same work on the same files, and the command says what it found"
import importlib.metadata, json, statistics
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from cyclegan_fastai.run.competitors import SIDES, UPIT, Clock, Ours, Plain, Pretrained
from cyclegan_fastai.cli.main import app
from cyclegan_fastai.run.experiment import recipe_dls
from cyclegan_fastai.run import figures
from cyclegan_fastai.run.bench import bench_rates
from cyclegan_fastai.run.figures import bench_figures, step_flops
from cyclegan_fastai.run.recipe import PAPER, SMALL, changed, faster
from cyclegan_fastai.data.seasons import seasons

try: has_upit = importlib.metadata.version('upit')==UPIT
except importlib.metadata.PackageNotFoundError: has_upit = False
small = '--size 32 --blocks 1 --width 4 --bs 2 --device cpu --json'.split()

@pytest.fixture
def run(tmp_path, monkeypatch):
    "The command, on a few small drawn landscapes"
    import cyclegan_fastai.run.experiment as experiment
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, 'seasons', lambda size: seasons(n_train=8, n_test=8, size=size, path=tmp_path/f'seasons{size}'))
    def go(*args):
        res = CliRunner().invoke(app, ['bench', *map(str, args)])
        return res.exit_code, res.output, res.exception
    return go

def test_speed_of_each_side(run):
    code, out, e = run(*small, '--rounds', 3, '--steps', 2, '--only', 'speed')
    assert code==0, e
    res = json.loads(out[out.index('{'):])
    assert [o['side'] for o in res['rows']]==[o.name for o in SIDES]
    assert res['about']['rounds']==3 and res['about']['size']==32 and {'torch','fastai','python'} < res['about']['versions'].keys()
    for o in res['rows']:
        if o['side'].startswith('UPIT') and not has_upit: assert f'pip install --no-deps upit=={UPIT}' in o['problem']; continue
        speeds = o['pairs_per_second']
        assert len(speeds)==3 and 0 < o['min']==min(speeds) <= o['median']==statistics.median(speeds) <= max(speeds)==o['max']
    assert res['figures']==[]
    plain = next(o for o in res['rows'] if o['side']==Plain.name)
    assert plain['to_plain']==dict(median=1., min=1., max=1.)
    fast = next(o for o in res['rows'] if o['side']=='cyclegan_fastai, fast')
    assert fast['at_least']=='1 × each' and fast['ok'] in ((True,False) if has_upit else (None,))
    ratios = [a/b for a,b in zip(res['rows'][0]['pairs_per_second'], plain['pairs_per_second'])]
    assert res['rows'][0]['to_plain']['median']==pytest.approx(statistics.median(ratios)), 'ratios are taken within a round'

def test_quality_of_each_side(run):
    code, out, e = run(*small, '--quality', '--epochs', 2)
    assert code==0, e
    rows = json.loads(out[out.index('{'):])['rows']
    assert [o['side'] for o in rows[:5]]==['untranslated', 'colour transfer', Pretrained.name, Ours.name, Plain.name]
    for o in rows[:5]:
        assert set(o['scores'])=={'summer → winter', 'winter → summer'} and all(5 < v['psnr'] < 40 for v in o['scores'].values())

@pytest.mark.parametrize('n', [1, 2, 5, 40, 0, -1])
def test_epochs_mean_the_same_everywhere(run, monkeypatch, n):
    "The length of the whole run, whichever the command; a wrong number is refused alike"
    from cyclegan_fastai.cli import train as cli_train
    from cyclegan_fastai.run import bench as bench_module, study as study_module
    class Caught(Exception): pass
    def catch(recipe, *args, **kwargs): raise Caught(recipe.epochs, recipe.decay_epochs)
    for o in ('bench_rates','bench_quality'): monkeypatch.setattr(bench_module, o, catch)
    monkeypatch.setattr(study_module, 'run_study', lambda recipes, *args: catch(recipes['as it is']))
    monkeypatch.setattr(cli_train, '_beginning', catch)
    def error(*args): return CliRunner().invoke(app, [*args, '--epochs', str(n), '--device', 'cpu']).exception
    expected = changed(PAPER, epochs=n) if n>0 else None
    for args in (['bench','--rates'], ['bench','--quality'], ['study','pretrained'], ['train']):
        e = error(*args)
        if n>0: assert e.args==(expected.epochs,expected.decay_epochs), args
        else: assert '`epochs`' in str(e) and type(e).__name__=='OptionError', args

@pytest.mark.parametrize('args,name', [(['--rounds', 0], '`rounds`'), (['--steps', 0], '`steps`'), (['--bs', 9], '`bs`'), (['--size', 30], '`size`'), (['--only', 'speed,sped'], '`parts`'), (['--rates', '--seeds', 0], '`seeds`'),
    (['--quality', '--seeds', 0], '`seeds`'), (['--device', 'abacus'], '`device`')])
def test_bad_options_are_named(run, args, name):
    code, _, e = run(*args)
    assert code and name in str(e)

def test_figures_that_need_a_gpu_say_so(run):
    code, out, e = run('--only', 'memory,batches,schedule', '--device', 'cpu')
    assert code==0, e
    assert out.count('not measured: needs')==3 or out.count('not measured')==3
    assert 'at most 600 s' in out and 'at most 4 GiB' in out and 'kept' not in out

def test_figures_of_this_machine(monkeypatch):
    measured, second_start = [], figures.second_start
    monkeypatch.setattr(figures, 'second_start', lambda *args: measured.append(second_start(*args)) or measured[-1]) # the text is rounded
    rows = {o['what']: o for o in bench_figures(replace(SMALL, ema=0., blocks=1, width=4), ('start','onnx'), 'cpu')['figures']}
    start, onnx = (next(v for k,v in rows.items() if o in k) for o in ('second start','ONNX'))
    seconds, = measured
    assert 1 < seconds < 200 and start['ok']==(seconds<=15) and start['found']==f'{seconds:.1f} s'
    if 'not measured' not in onnx['found']: assert .1 < float(onnx['found'].split()[0]) < 20

def test_arithmetic_is_counted():
    "By hand, for the convolutions of a generator: two operations a weight and a place of the output"
    from torch import nn, zeros
    from cyclegan_fastai.nets.models import patch_critic, resnet_generator
    def forward(net, size):
        total, hooks = [], [m.register_forward_hook(lambda m, x, y: total.append(
            2*m.weight.numel()*(x[0] if isinstance(m, nn.ConvTranspose2d) else y)[0,0].numel())) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
        net(zeros(1, 3, size, size))
        for o in hooks: o.remove()
        return sum(total), total[0]
    (g, g0), (c, c0) = forward(resnet_generator(1, 4), 32), forward(patch_critic(4), 32)
    generators = 6*3*g - 4*g0                            # forward, and two products back; images need no gradient but in the two cycles
    critics = 2*(3*c-c) + 4*(3*c-c0)                     # as generators see them, weights are constants
    found = step_flops(replace(PAPER, size=32, blocks=1, width=4))
    assert abs(found/(generators+critics)-1) < .02

def test_rates_of_larger_batches(tmp_path):
    path = seasons(n_train=8, n_test=8, size=32, path=tmp_path/'seasons')
    recipe = replace(SMALL, data=str(path), size=32, blocks=1, width=4, bs=1, lr=2e-4, ema=0., epochs=1, decay_epochs=0)
    rows = bench_rates(recipe, sizes=(4,), seeds=1, device='cpu')['rows']
    assert [(o['bs'], o['rule'], o['lr']) for o in rows]==[(1,'constant',2e-4), (4,'constant',2e-4), (4,'square_root',4e-4), (4,'linear',8e-4)]
    assert all(5 < o['psnr'] < 40 and o['kid']==o['kid'] for o in rows)
    assert faster(PAPER).lr==pytest.approx(PAPER.lr*16**.5)

def test_the_clock_counts_training_steps_alone(tmp_path):
    path = seasons(n_train=8, n_test=2, size=32, path=tmp_path/'seasons')
    side = Ours(replace(SMALL, data=str(path), size=32, blocks=1, width=4, bs=2), recipe_dls(replace(SMALL, data=str(path), size=32, bs=2), 'cpu'))
    clock = Clock(5, warm=2)                                            # over the end of an epoch of four steps
    with side.learn.no_bar(), side.learn.no_logging(): side.learn.fit(2, cbs=clock)
    assert clock.done==7 and clock.seconds > 0
