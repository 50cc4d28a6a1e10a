"The command line: what it makes, how it goes on, and what it says when something is wrong"
import json, os, pickle, re, shutil, signal, subprocess, sys, time
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Optional, get_args

import pytest, typer
from fastcore.docments import docments
from PIL import Image
from typer.testing import CliRunner
import cyclegan_fastai
from cyclegan_fastai.core.checks import OptionError
from cyclegan_fastai.data.files import find_unpaired
from cyclegan_fastai.game.learner import cyclegan_game
from cyclegan_fastai.run.recipe import PHOTOS, RECIPES, Recipe, changed
from cyclegan_fastai.cli.terminal import FLAGS, as_option, recipe_options
from cyclegan_fastai.cli import main as cli
from cyclegan_fastai.cli.train import train
from cyclegan_fastai.use.translator import Translator

root = Path(__file__).resolve().parents[1]
sample = root/'data'/'seasons_sample'
small = '--size 32 --epochs 1 --decay-epochs 1 --bs 4 --blocks 1 --width 4 --device cpu --recipe paper'.split()

def call(monkeypatch, capfd, *args):
    "Run `main` as the console script does: exit status, standard output, standard error"
    monkeypatch.setattr(sys, 'argv', ['cyclegan-fastai', *map(str, args)])
    with pytest.raises(SystemExit) as e: cli.main(), sys.exit(0)
    out, err = capfd.readouterr()
    return e.value.code or 0, out, err

@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *args: call(monkeypatch, capfd, *args)

def process(*args, cwd):
    env = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
    return subprocess.Popen([sys.executable, '-m', 'cyclegan_fastai.cli', *map(str, args)], cwd=cwd, env=env, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)

def test_train_translate_resume(run, tmp_path):
    code, out, err = run('train', '--data', sample, *small, '--out', 'my run')
    assert code==0, err
    made = {o.name for o in (tmp_path/'my run').iterdir()}
    assert made=={'sample_grid.png', 'losses.png', 'film.webp', 'samples', 'metrics.json', 'model.safetensors', 'recipe.json', 'last.pth',
                  'before_last.pth', 'best.pth', 'best.json', 'best.safetensors', 'images.json'}
    res = json.loads((tmp_path/'my run'/'metrics.json').read_text())
    assert len(res['history'])==2 and len(res['scores'])==6 and res['pairs_per_epoch']==24
    for o in res['scores']:
        assert f'{o["psnr"]:.2f}' in out
    assert 'PSNR' in out and 'cyclegan-fastai translate' in out
    assert Image.open(tmp_path/'my run'/'sample_grid.png').size[0] > 400
    assert Image.open(tmp_path/'my run'/'film.webp').n_frames==3         # before training, and after each epoch

    photo = tmp_path/'a photo.jpg'
    Image.open(next((sample/'testA').iterdir())).resize((90, 60)).save(photo)
    (tmp_path/'broken.jpg').write_bytes(b'not an image')
    code, out, err = run('translate', 'broken.jpg', photo, '--run', 'my run', '--out', 'res', '--json')
    rows = json.loads(out)
    assert code==1 and 'broken.jpg' in rows[0]['problem'] and rows[1]['status']=='done'
    assert rows[1]['result']=='res/a photo_B.jpg' and Image.open(rows[1]['result']).size==(90, 60)
    code, out, err = run('translate', photo, '--run', 'my run/model.safetensors', '--out', 'small', '--size', 32, '--to', 'A')
    assert code==0 and '1 translated' in out and Image.open('small/a photo_A.jpg').size==(48, 32)

    code, out, err = run('train', '--out', 'my run', '--resume', '--json')     # it was finished: nothing is trained again
    assert code==0 and json.loads(out)['history']==res['history']

def test_json_alone_on_standard_output(run):
    code, out, _ = run('train', '--data', sample, *small, '--json')
    assert code==0 and json.loads(out)['recipe']['width']==4
    assert Path('runs/seasons_sample/model.safetensors').exists()
    code, out, _ = run('train', '--data', sample, *small, '--json')               # a second run goes beside the first
    assert code==0 and Path('runs/seasons_sample-2/model.safetensors').exists()

def test_data_is_the_working_folder(run, monkeypatch, tmp_path):
    "The run is named after the folder, and its pictures are no domain of the next run; neither are a study's"
    pets = tmp_path/'my.pets'/'v1'
    for k in 'AB': shutil.copytree(sample/f'train{k}', pets/dict(A='cats', B='dogs')[k])
    monkeypatch.chdir(pets)
    for i,data in enumerate(('.', './', '../v1', '..'), 1):
        if data=='..': monkeypatch.chdir(pets/'cats')
        code, out, err = run('train', '--data', data, *small, '--json')
        assert code==0, err
        assert json.loads(out)['domains']==['cats','dogs'] and (Path.cwd()/'runs'/('v1' if i in (1,4) else f'v1-{i}')/'recipe.json').exists()
        (study := pets/'runs'/'study').mkdir(exist_ok=True)
        (study/'study.json').write_text('{}'); Image.new('RGB', (32,32)).save(study/'study.png')
    assert not (pets/'runs'/'recipe.json').exists()

def test_domains_have_the_names_of_their_folders(tmp_path):
    "Also in a folder called like a published data set, whose A and B have other names"
    from cyclegan_fastai.run.experiment import recipe_dls
    for a,b in (('labels','photo'), ('trainA','trainB')):
        for d,k in ((a,'A'), (b,'B')): shutil.copytree(sample/f'train{k}', tmp_path/a/'facades'/d)
    names = {o: recipe_dls(Recipe(data=tmp_path/o/'facades', size=32), 'cpu').domains for o in ('labels','trainA')}
    assert names==dict(labels=('labels','photo'), trainA=('photo','labels'))

def test_same_seed_same_run(run):
    def scores(seed): return json.loads(run('train', '--data', sample, *small, '--seed', seed, '--json')[1])['scores']
    assert scores(3)==scores(3)!=scores(4)

def test_ctrl_c_and_resume(tmp_path):
    "A real interrupt in a real process; going on ends as if nothing had happened"
    args = ['train', '--data', sample, *small[:2], '--epochs', 2, '--decay-epochs', 2, *small[6:], '--bs', 4]
    whole = process(*args, '--out', 'whole', '--json', cwd=tmp_path)
    cut = process(*args, '--out', 'cut', cwd=tmp_path)
    for _ in range(6000):
        if (tmp_path/'cut'/'last.pth').exists() or cut.poll() is not None: break
        time.sleep(.05)
    cut.send_signal(signal.SIGINT)
    out, err = cut.communicate(timeout=120)
    assert cut.returncode==130, (out, err)
    assert '--resume' in out and 'Traceback' not in err
    on = process('train', '--out', 'cut', '--resume', '--json', cwd=tmp_path)
    resumed, straight = json.loads(on.communicate(timeout=120)[0]), json.loads(whole.communicate(timeout=120)[0])
    assert len(resumed['history'])==4
    assert resumed['history']==straight['history'] and resumed['scores']==straight['scores']

def test_a_run_goes_on_wherever_its_images_are(run, tmp_path, monkeypatch):
    "However the folder is spelled, from another working folder, and after it moved; but with the same images"
    pets = tmp_path/'pets'
    for k in 'AB': shutil.copytree(sample/f'train{k}', pets/dict(A='cats', B='dogs')[k])
    assert run('train', '--data', 'pets', *small, '--out', 'r')[0]==0
    assert json.loads(Path('r/recipe.json').read_text())['data']==str(pets) and "'data': 'pets'" in str(Translator.load('r', 'cpu').about), 'no path in the model'
    for data in ('pets', 'pets/', './pets', pets): assert run('train', '--resume', '--out', 'r', '--data', data)[0]==0, data
    (tmp_path/'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path/'elsewhere')
    assert run('train', '--resume', '--out', '../r')[0]==0
    moved = pets.rename(tmp_path/'moved')
    assert '--data' in run('evaluate', '../r')[2]
    code, out, err = run('train', '--resume', '--out', '../r')
    assert code==2 and str(pets) in err and '--data' in err
    assert run('train', '--resume', '--out', '../r', '--data', moved)[0]==0
    assert json.loads(Path('../r/recipe.json').read_text())['data']==str(moved)
    shutil.copy(next(moved.rglob('*.png')), moved/'dogs'/'new.png')
    code, out, err = run('train', '--resume', '--out', '../r')
    assert code==2 and '1 more (`dogs/new.png`)' in err and 'Traceback' not in err
    (moved/'dogs'/'new.png').unlink()
    gone = sorted((moved/'cats').iterdir())[0]
    gone.unlink()
    assert f'1 missing (`cats/{gone.name}`)' in run('train', '--resume', '--out', '../r')[2]

def test_data_verbs(run, tmp_path):
    code, out, _ = run('data', 'list', '--json')
    assert code==0 and {o['name'] for o in json.loads(out)} >= {'summer2winter_yosemite', 'horse2zebra', 'maps'}
    code, out, _ = run('data', 'seasons', '--n-train', 2, '--n-test', 1, '--size', 32, '--out', 'drawn', '--json')
    assert code==0 and json.loads(out)[0]['images']==8 and len(list(Path('drawn/trainA').iterdir()))==2
    shutil.copytree(sample, 'mine')
    assert run('data', 'verify', 'mine')[0]==0
    (tmp_path/'mine'/'trainA'/'cut.png').write_bytes(b'\x89PNG')
    code, out, _ = run('data', 'verify', 'mine', '--json')
    row, = json.loads(out)
    assert code==1 and row['problem']=='damaged' and 'cut.png' in row['file']
    code, out, err = run('train', '--data', 'mine', *small)
    assert code==2 and 'cut.png' in err and '`--skip-damaged`' in err and not Path('runs').exists()
    assert run('train', '--data', 'mine', *small, '--skip-damaged')[0]==0
    assert run('evaluate', 'runs/mine')[0]==0, 'what training left out is left out here, too'

def test_a_run_is_not_overwritten(run):
    assert run('train', '--data', sample, *small, '--out', 'r')[0]==0
    before = Path('r/model.safetensors').read_bytes()
    code, _, err = run('train', '--data', sample, *small, '--out', 'r')
    assert code==2 and '--resume' in err.replace('`resume`', '--resume') and Path('r/model.safetensors').read_bytes()==before
    code, _, err = run('train', '--resume', '--out', 'r', '--epochs', 9)
    assert code==2 and '`epochs` was 1' in err
    code, _, err = run('translate', sample/'testA', '--run', 'nothing')
    assert code==2 and "doesn't exist" in err
    code, _, err = run('translate', 'x.png', '--run', 'r', '--to', 'autumn')
    assert code==2 and "must be 'A' or 'B', got 'autumn'" in err

def test_help_is_worth_reading(run):
    for args in ([], ['train'], ['translate'], ['export'], ['app'], ['data'], ['data', 'verify']):
        code, out, _ = run(*args, '--help')
        assert code==0 and len(out)>300
    assert '--install-completion' in run('--help')[1]
    assert run('--version')==(0, f'cyclegan_fastai {cyclegan_fastai.__version__}\n', '')

def options(command):
    "Name in Python → option of a command, as click has it"
    from typer.main import get_command
    return {o.name: o for o in get_command(cli.app).commands[command].params}

def test_every_setting_is_an_option_of_train():
    "Declared once: the fields of `Recipe` and their docments"
    docs, found = docments(Recipe), options('train')
    for o in fields(Recipe):
        p, kind = found[o.name], bool if o.name in FLAGS else type(o.default)
        assert p.help==docs[o.name] and p.default is None
        assert p.opts==[FLAGS[o.name][0] if o.name in FLAGS else f'--{o.name.replace("_", "-")}']
        assert p.secondary_opts==([f'--no-{o.name}'] if type(o.default) is bool else []), 'what a recipe switches on can be switched off'
        assert get_args(signature(train).parameters[o.name].annotation)[0]==Optional[kind]
    text = found['recipe'].help
    assert all(o in text for o in RECIPES)

def test_given_settings_arrive_and_no_others():
    app = typer.Typer()
    @app.command()
    @recipe_options('size', 'lr', 'damaged', 'fast')
    def show(settings:dict, out:str='runs'): print(json.dumps([settings, out]))
    def given(args): return json.loads(CliRunner().invoke(app, args.split()).output)
    assert given('')==[{}, 'runs']
    assert given('--lr 1 --out x --skip-damaged --fast')==[dict(lr=1., damaged='skip', fast=True), 'x']
    assert CliRunner().invoke(app, ['--epochs', '3']).exit_code==2

def test_results_of_commands_are_no_data(run, tmp_path, model_file):
    "A folder that `translate` made within the data's is no third domain, whatever its name; one of another origin is named"
    for domain in ('summer','winter'): shutil.copytree(sample/f'{"trainA" if domain=="summer" else "trainB"}', tmp_path/domain)
    expected = [*find_unpaired(tmp_path)]
    for out in ('translated', 'a new domain', 'sub/x'):
        assert run('translate', 'summer', '--model', model_file, '--to', 'winter', '--out', out)[0]==0
        assert json.loads((tmp_path/out/'translated.json').read_text()) and list((tmp_path/out).glob('*_winter.*'))
        assert [*find_unpaired(tmp_path)]==expected and find_unpaired(tmp_path).unused==[]
    n = len(list(Path('summer').iterdir()))
    assert f'{2*n} translated' in run('translate', '.', '--model', model_file, '--out', 'once more')[1], 'results are no sources either'
    assert f'{n} translated' in run('translate', 'translated', '--model', model_file, '--out', 'named')[1], 'unless they are named'
    space = tmp_path/'space'/'examples'; space.mkdir(parents=True)
    Image.new('RGB', (8,8)).save(space/'summer.png'); (space.parent/'model.safetensors').touch()
    page = tmp_path/'page'/'examples'; page.mkdir(parents=True)
    Image.new('RGB', (8,8)).save(page/'1.jpg'); (page.parent/'ort').mkdir(); (page.parent/'ort'/'ort.js').touch()
    assert [*find_unpaired(tmp_path)]==expected
    (tmp_path/'translated'/'translated.json').unlink()                             # as made before there was one
    code, _, err = run('train', '--data', '.', *small)
    assert code==2 and re.search(r'move others out of it.* found summer \(\d+ train\), translated \(\d+ train\), winter', err), err

def test_a_folder_with_anything_in_it_is_not_marked(run, tmp_path, model_file):
    "So photographs never turn into results"
    (tmp_path/'photos').mkdir()
    Image.new('RGB', (32,32)).save('photos/a.png')
    for out in ('.', 'photos/in'):
        if out!='.': Path(out).mkdir(); Path(out, 'notes.txt').touch()
        assert run('translate', 'photos/a.png', '--model', model_file, '--out', out)[0]==0
        assert not Path(out, 'translated.json').exists()

@pytest.mark.parametrize('o,text', [(('size', 64), '--size 64'), (('decay_epochs', 3), '--decay-epochs 3'), (('lr', 2e-4), '--lr 0.0002'), (('n', 4), '-n 4'),
                                    (('fast', True), '--fast'), (('rounds', 1), '--rounds 1'), (('damaged', 'skip'), '--skip-damaged')])
def test_arguments_as_options(o, text): assert as_option(*o)==text

def test_an_error_names_the_option(run):
    "What Python calls `size=64`"
    assert 'pass `--size 64` or 68' in run('train', '--size', 66)[2]
    assert 'such as `--dropout 0.5`' in run('train', '--dropout', 1)[2]
    with pytest.raises(OptionError, match='pass `size=64` or 68') as e: Recipe(size=66)
    assert pickle.loads(pickle.dumps(e.value)).worded(as_option)==e.value.worded(as_option)

@pytest.mark.parametrize('args,said', [
    ('--up resize', "`up` is for `generator` 'resnet', got 'residual': pass `--up transposed`, or 'resnet'"),
    ('--dropout .5', "`dropout` is for `generator` 'resnet', got 'residual': pass `--dropout 0`, or 'resnet'"),
    ('--first-size 32 --epochs 1', '`first_size` is the size until the learning rate falls, and needs `epochs` and `decay_epochs` of at least 1: pass `--first-size 0`')])
def test_settings_without_effect_are_refused(run, args, said):
    "On the command line and in Python, where a network is made without a recipe"
    assert said in run('train', *args.split())[2]
    for o in (dict(up='resize'), dict(dropout=.5)):
        for f in (cyclegan_game, Recipe):
            with pytest.raises(OptionError, match=f'`{[*o][0]}` is for `generator`'): f(generator='residual', **o)
    cyclegan_game(1, 4, generator='residual')

@pytest.mark.parametrize('epochs', [dict(epochs=1), dict(epochs=3, decay_epochs=0), dict(epochs=0, decay_epochs=2)])
def test_a_rate_that_never_falls_leaves_no_smaller_size(epochs):
    "A run of `photos` for one epoch was one of 64 pixels, and its model said 128"
    assert changed(PHOTOS, **epochs).first_size==0 and changed(PHOTOS, epochs=2).first_size==64
    with pytest.raises(OptionError, match='pass `first_size=0`'): changed(PHOTOS, first_size=64, **epochs)

@pytest.mark.parametrize('args,status', [(['train', '--help'], 0), (['train', '--size', '3'], 2), (['train', '--sice', '3'], 2)])
def test_help_and_mistakes_load_no_torch(args, status, tmp_path):
    code = f"""import sys
from cyclegan_fastai.cli.main import main
sys.argv = ['cyclegan-fastai', *{args}]
try: main()
except SystemExit as e: print(e.code or 0, *({{'torch','fastai','numpy'}} & sys.modules.keys()))"""
    res = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(root)})
    assert res.stdout.splitlines()[-1].strip()==str(status), res

def test_evaluate_a_run(run, tmp_path):
    assert run('train', '--data', sample, *small, '--out', 'r')[0]==0
    code, out, err = run('evaluate', 'r', '--json')
    assert code==0, err
    res = json.loads(out)
    assert [o['images'] for o in res['table']][1]=='A, untranslated' and len(res['table'])==2*2*4 and len(res['truth'])==6
    assert json.loads((tmp_path/'r'/'evaluation.json').read_text())==res
    assert Image.open(tmp_path/'r'/'evaluation.png').size[0] > 800
    code, out, err = run('evaluate', 'r', '-n', 5, '--data', sample)
    assert code==0 and re.search(r'translated +-?[0-9.]+ ± [0-9.]+', out) and 'colour error' in out and 'cycle PSNR' in out
    code, out, err = run('evaluate', 'nothing')
    assert code==2 and '`nothing` holds no run' in err
    code, out, err = run('evaluate', 'r', '--features', 'vgg')
    assert code==2 and "`features` must be 'lite0', 'lite1', 'mobilenet', 'inception'" in err

def test_distances_of_a_data_set(run):
    code, out, err = run('data', 'distances', sample, '--size', 32, '--json')
    assert code==0, err
    rows = json.loads(out)
    assert len(rows)==8 and {'kid','kid_se','frechet','frechet_all','n_a','n_b'} < rows[0].keys()
    assert run('data', 'distances', sample, '--size', 32)[1].count('±')==8

def test_alarms_reach_the_terminal(run):
    code, out, err = run('train', '--data', sample, *small[:2], '--epochs', 4, '--decay-epochs', 0, *small[6:], '--lr', 1e6, '--out', 'r')
    assert code==0, err
    assert out.count('Alarm in epoch')>=1 and 'Alarm at the end: collapse' in out
    assert any('collapse_a2b' in o.get('alarms', {}) for o in json.loads(Path('r/metrics.json').read_text())['history'])

def test_not_a_number_ends_a_run(run):
    code, out, err = run('train', '--data', sample, *small, '--lr', 1e30, '--out', 'r')
    assert code==2 and 'Training stops before the step: not finite in' in err and 'Traceback' not in err
    assert not Path('r/model.safetensors').exists() and Path('r/last_good.pth').exists()

# A trained model

def test_translate_folders_again_and_again(run, model_file, tmp_path):
    for o in ('day 1/a.png', 'day 2/a.png'):
        (tmp_path/'photos'/o).parent.mkdir(parents=True)
        shutil.copy(sample/'testA'/'summer_0000.png', tmp_path/'photos'/o)
    args = 'translate', 'photos', '--run', model_file
    code, out, err = run(*args)
    assert code==0 and '2 translated, 0 done before, 0 failed' in out, (out, err)
    made = sorted(o.relative_to('translated').as_posix() for o in Path('translated').rglob('*.png'))
    assert made==['day 1/a_winter.png', 'day 2/a_winter.png'] and not list(Path('translated').rglob('*.part'))
    assert '0 translated, 2 done before' in run(*args)[1]
    assert '2 translated, 0 done before' in run(*args, '--overwrite')[1]
    assert '2 translated, 0 done before' in run(*args, '--to', 'summer')[1]
    assert '1 translated' in run('translate', 'photos/*1/*.png', '--run', model_file, '--out', 'elsewhere')[1]

def test_what_stands_in_brackets_is_no_markup(capfd):
    from cyclegan_fastai.cli.terminal import print_table
    print_table([dict(problem="pip install 'cyclegan_fastai[video]' [/bold]")])
    assert "'cyclegan_fastai[video]' [/bold]" in capfd.readouterr().out

def test_a_page_is_served(tmp_path):
    "A real server in a real process, on loopback, with the model that comes with the package; Ctrl-C ends it"
    pytest.importorskip('gradio')
    import re, urllib.request
    server = process('app', cwd=tmp_path)
    try:
        line = server.stdout.readline()
        url = re.search(r'http://127\.0\.0\.1:\d+', line)
        assert url, (line, server.stderr.read() if server.poll() is not None else '')
        assert b'summer' in urllib.request.urlopen(url[0], timeout=30).read()
        server.send_signal(signal.SIGINT)
        assert 'Traceback' not in server.communicate(timeout=30)[1]
    finally: server.kill()

def test_a_large_photograph_is_told_of(run, model_file):
    Image.new('RGB', (300, 280), 'green').save('large.jpg')
    assert '`--size 128`' in re.sub(r'\s+', ' ', run('translate', 'large.jpg', '--run', model_file)[1])

def test_export_and_use(run, model_file, tmp_path):
    pytest.importorskip('onnxscript', reason='no ONNX exporter: install the extra [onnx]')
    shutil.copytree(model_file.parent, 'r')
    code, out, err = run('export', 'r')
    assert code==0 and 'summer_to_winter.onnx' in out and "Translator.load('r/onnx')" in out, (out, err)
    photo = sample/'testA'/'summer_0000.png'
    for model,name in (('r','torch'), ('r/onnx','onnx')): assert run('translate', photo, '--run', model, '--out', name)[0]==0
    a,b = (Image.open(f'{o}/summer_0000_winter.png') for o in ('torch','onnx'))
    assert max(abs(p-q) for p,q in zip(a.tobytes(), b.tobytes())) <= 1
    for format in ('safetensors','torchscript','lambda'):
        code, out, err = run('export', 'r', '--format', format, '--json')
        assert code==0 and {'README.md'} < {o['file'] for o in json.loads(out)}, err
    assert {o.name for o in Path('r').iterdir()}=={'model.safetensors', 'onnx', 'safetensors', 'torchscript', 'lambda'}

def test_bars_within_bars():
    from cyclegan_fastai.cli.terminal import progress_bars
    with progress_bars() as bars:
        seen = [(len(bars.tasks), [(o, len(bars.tasks)) for o in bars.inner(range(2))]) for _ in bars.track(range(2), description='images')]
    assert seen==[(1, [(0,2), (1,2)])]*2
