"The models that come with the package: what they are, what their cards say, and that they are there by name, without a run or a network"
import json, re, subprocess, sys, zipfile
from pathlib import Path

import numpy as np, pytest, torch
from PIL import Image
from cyclegan_fastai.cli import main as cli
from cyclegan_fastai.use.model_card import model_card
from cyclegan_fastai.use.export import load_model
from cyclegan_fastai.use.translator import Translator, model_files, pretrained_models
from cyclegan_fastai.data.landscape import Scene, draw_scene

models = pretrained_models()
folder = models['summer2winter']
file,data = folder/'model.safetensors', dict(summer2winter='summer2winter_yosemite')
each = pytest.mark.parametrize('name', sorted(models))

def card(name): return (models[name]/'README.md').read_text(encoding='utf-8')
def loaded(name): return Translator.load(name, device='cpu')

def drawn(season='summer', seed=3, size=320): return draw_scene(Scene.random(np.random.default_rng(seed)), season, size).crop((0, 0, size, size*3//4))

@pytest.fixture(scope='module')
def shipped(): return Translator.load(device='cpu')

@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    "Run a command line in an empty folder, as the console script does: exit status, standard output, standard error"
    monkeypatch.chdir(tmp_path)
    def call(line):
        monkeypatch.setattr(sys, 'argv', line.split())
        with pytest.raises(SystemExit) as e: cli.main(), sys.exit(0)
        return e.value.code or 0, *capfd.readouterr()
    return call

def contents(): return {o.relative_to(folder).as_posix(): o.stat().st_size for o in folder.rglob('*')}

# What is there

def test_they_are_small():
    assert models.keys()==data.keys()
    for o in models.values(): assert {p.name for p in o.iterdir()}=={'README.md','model.safetensors'}
    assert sum(o.stat().st_size for o in folder.parent.rglob('*') if o.is_file()) <= 8_000_000

@each
def test_weights_are_in_half_precision(name):
    from safetensors import safe_open
    with safe_open(models[name]/'model.safetensors', 'pt') as f: kinds = {f.get_slice(k).get_dtype() for k in f.keys() if k.endswith(('weight','bias'))}
    assert kinds=={'F16'}

def test_it_translates_both_ways(shipped):
    assert shipped.domains==('summer','winter') and set(shipped.engines)==set(shipped.domains) and shipped.target()=='winter'
    for season,to in (('summer','winter'), ('winter','summer')):
        im = drawn(season)
        made = shipped(im, to=to)
        assert made.size==im.size and np.abs(np.array(made).astype(int)-np.array(im)).mean()>4 and np.array(made).std()>10
    assert all(p.dtype==torch.float32 for e in shipped.engines.values() for p in e.net.parameters()), 'computed in 32 bits'

def test_it_needs_no_network_and_no_fastai(tmp_path):
    code = '''import sys
def no_network(event, args):
    if event in ('socket.connect','socket.getaddrinfo'): raise OSError(event)
sys.addaudithook(no_network)
from cyclegan_fastai.use.translator import Translator
print(Translator.load(device='cpu').title, 'fastai' in sys.modules)'''
    res = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path)
    assert res.stdout=='summer ↔ winter False\n' and not list(tmp_path.iterdir()), res.stderr

# What its card says

@each
def test_card_says_what_it_is(name):
    t = loaded(name)
    for o in (f'# {t.title}', '## Use', '## Training', '## Evaluation', '## Limits', f'{t.size}×{t.size}', data[name], 'licence'): assert o in card(name), o

@each
def test_card_agrees_with_the_file(name):
    t = loaded(name)
    recipe,arch = t.about['recipe'],next(iter(t.engines.values())).net.arch
    assert recipe['size']==t.size and recipe['data']==data[name]
    assert (recipe['blocks'], recipe['width'])==(arch['n_blocks'], arch['nf'])
    said = card(name)
    missing = [o for o in model_card(t, [models[name]/'model.safetensors']).splitlines() if o.startswith('|') and o not in said]
    assert not missing, 'the card says something else: export it again'

@each
def test_its_settings_are_those_of_a_recipe(name):
    "Whoever trains by that name gets what ships"
    from cyclegan_fastai.run.recipe import RECIPES, Recipe
    assert Recipe(**loaded(name).about['recipe']) in RECIPES.values()

@each
def test_no_path_of_a_machine(name):
    for text in (card(name), json.dumps(loaded(name).about)):
        assert not (found := re.findall(r'(?:/root|/home|/work|/tmp|/Users|\b[A-Z]:\\).{,40}', text)), found

# By its name

def test_translate_as_the_readme_says(run):
    drawn().save('photo.jpg', quality=95)
    code, out, err = run('cyclegan-fastai translate photo.jpg')
    assert code==0 and '1 translated' in out, (out, err)
    assert sorted(o.name for o in Path('translated').iterdir())==['photo_winter.jpg', 'translated.json']
    assert Image.open('translated/photo_winter.jpg').size==(320,240)
    assert '0 translated, 1 done before' in run('cyclegan-fastai translate photo.jpg')[1]
    assert '1 translated' in run('cyclegan-fastai translate photo.jpg --to summer --run summer2winter')[1]
    summer,winter = (np.array(Image.open(f'translated/photo_{o}.jpg')).astype(int) for o in ('summer','winter'))
    assert summer.shape==winter.shape==(240,320,3) and np.abs(summer-winter).mean()>4

def test_export_goes_here_and_not_into_the_package(run):
    before = contents()
    for line in ('export summer2winter --format safetensors --dtype float16', 'export --format torchscript'):
        code, out, err = run(f'cyclegan-fastai {line}')
        assert code==0, (out, err)
    assert {o.as_posix() for o in Path('summer2winter').iterdir()}=={'summer2winter/safetensors','summer2winter/torchscript'} and contents()==before
    again = Translator.load('summer2winter/safetensors', device='cpu').engine().net.state_dict()
    assert all(torch.equal(v, again[k]) for k,v in Translator.load(device='cpu').engine().net.state_dict().items())
    assert model_files('summer2winter')==[file], 'the folder that was made holds no model itself'

def test_onnx_and_the_loaders_of_other_verbs(shipped, run, tmp_path):
    pytest.importorskip('onnxscript', reason='no ONNX exporter: install the extra [onnx]')
    from cyclegan_fastai.use.export import export_files
    t = load_model(Path('summer2winter'), device='cpu')                        # as `app` and `export` do
    assert t.about==shipped.about
    assert {o.name for o in export_files(t, tmp_path)}=={'summer_to_winter.onnx','winter_to_summer.onnx'}

def test_a_folder_of_yours_goes_first(run, shipped, translator):
    x = np.array(drawn())[:64,:64]
    theirs = shipped(x)
    drawn().save('photo.png')
    Path('summer2winter').mkdir()
    drawn().save('summer2winter/photo.jpg')                                    # of a trip to Yosemite: no model is meant
    assert np.array_equal(Translator.load('summer2winter', device='cpu')(x), theirs)
    assert '1 translated' in run('cyclegan-fastai translate summer2winter --out trip')[1]
    Path('summer2winter/recipe.json').write_text('{}')                         # a run that isn't finished
    with pytest.raises(FileNotFoundError, match='--resume --out summer2winter'): Translator.load('summer2winter')
    translator.save('summer2winter/model.safetensors')
    for o in ('summer2winter', Path('summer2winter')): assert model_files(o)==[Path('summer2winter/model.safetensors')]
    mine = Translator.load('summer2winter', device='cpu')
    assert mine.size==32 and np.array_equal(mine(x), translator(x)) and not np.array_equal(mine(x), theirs)
    assert run('cyclegan-fastai translate photo.png --out mine')[0]==0
    assert np.array_equal(Image.open('mine/photo_winter.png'), mine(Image.open('photo.png'))), 'by the default of the command line, too'

def test_a_name_that_is_none_says_which_there_are(run):
    with pytest.raises(FileNotFoundError, match='`summer2winte` doesn.t exist: .* comes with the package: summer2winter$'): Translator.load('summer2winte')
    assert run('cyclegan-fastai app summer2winte')[0]==2

def test_without_the_folder_the_rest_works(monkeypatch, translator, model_file, tmp_path):
    "As in a serverless function, which takes along a few modules and no model"
    monkeypatch.setattr('cyclegan_fastai.use.translator.resources', lambda _: tmp_path)
    assert pretrained_models()=={} and model_files(model_file.parent)==[model_file]
    with pytest.raises(FileNotFoundError, match="`summer2winter` doesn't exist: name the folder of a finished run, or a model's file$"): Translator.load()

# What it is worth

def test_photographs_come_nearer_to_the_other_season(shipped, shared_data, tmp_path):
    "60 test photographs each way, by a classifier of real summers and winters"
    from cyclegan_fastai.data.unpaired import UnpairedDataLoaders
    from cyclegan_fastai.measure.evaluation import evaluate
    with zipfile.ZipFile(shared_data/'summer2winter_yosemite.zip') as z:
        for split,n in (('trainA',160), ('trainB',160), ('testA',65), ('testB',65)):
            (tmp_path/split).mkdir()
            names = sorted(o for o in z.namelist() if f'/{split}/' in o and o.endswith('.jpg'))
            for i in np.linspace(0, len(names)-1, n).round().astype(int): (tmp_path/split/Path(names[i]).name).write_bytes(z.read(names[i]))
    dls = UnpairedDataLoaders.from_folder(tmp_path, size=shipped.size, bs=4, domains=('summer','winter'), device='cpu', num_workers=0)
    def f(to): return lambda x: torch.from_numpy(shipped.engine(to)(x.numpy()))
    found = evaluate((f('winter'), f('summer')), dls, 'lite0', n=60, progress=False)
    print(*found.verdict, sep='\n')
    for o in found.directions:
        taken = {k: s.taken for k,s in o.scores[found.judges[0]].items()}
        assert len(o.images[0])>=50
        assert taken['translated'] > taken['untranslated']+25, o.direction
        kid = {k: s.kid.value for k,s in o.scores[found.judges[0]].items()}
        assert kid['translated'] < kid['untranslated'], o.direction
