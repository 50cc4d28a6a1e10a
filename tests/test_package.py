"The package as others get it: sdist and wheel, what is in them, and whether the wheel trains where there is no checkout"
import ast, os, re, shutil, subprocess, sys, tarfile
from configparser import ConfigParser
from email import message_from_bytes
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

root = Path(__file__).resolve().parents[1]
name = 'cyclegan_fastai'

def run(*args, **kwargs):
    "Output of a process that must succeed"
    env = {k: v for k,v in os.environ.items() if k!='PYTHONDONTWRITEBYTECODE'} | kwargs.pop('env', {})
    res = subprocess.run([str(o) for o in args], env=env, capture_output=True, text=True, **kwargs)
    if res.returncode: pytest.fail(res.stdout + res.stderr, pytrace=False)
    return res.stdout

def build(tree, out, *args):
    "Paths of what `python -m build` makes of `tree`, with the setuptools that is here"
    run(sys.executable, '-m', 'build', '--no-isolation', '-o', out, *args, tree, cwd=out.parent)
    return sorted(out.iterdir())

@pytest.fixture(scope='session')
def tracked():
    "The files under version control, relative to the root"
    if not (shutil.which('git') and (root/'.git').exists()): pytest.skip('no git, or no checkout: which files belong to the package is unknown')
    return [o for o in run('git', '-C', root, 'ls-files', '-z').split('\0') if o and (root/o).is_file()]

@pytest.fixture(scope='session')
def tree(tracked, tmp_path_factory):
    "A copy of them, so that the checkout stays clean"
    pytest.importorskip('build', reason='no build: install the extra [dev]')
    pytest.importorskip('setuptools', reason='no setuptools: install the extra [dev]')
    if Version(version('setuptools'))<Version('77'): pytest.skip('setuptools is older than 77: install the extra [dev]')
    tree = tmp_path_factory.mktemp('package')/'tree'
    for o in tracked:
        if o.split('/')[0] in ('nbs','data'): continue # what the package must not need
        (tree/o).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root/o, tree/o)
    return tree

@pytest.fixture(scope='session')
def dists(tree):
    wheel,sdist = build(tree, tree.parent/'dist') # the wheel is built from the sdist
    assert (wheel.suffix, sdist.suffix)==('.whl','.gz')
    return wheel,sdist

@pytest.fixture(scope='session')
def wheel(dists): return dists[0]

@pytest.fixture(scope='session')
def cfg():
    parser = ConfigParser(delimiters=['='])
    parser.read(root/'settings.ini', encoding='utf-8')
    return parser['DEFAULT']

def contents(wheel):
    with ZipFile(wheel) as z: return {o: z.read(o) for o in z.namelist()}

def info(wheel, file): return next(v for k,v in contents(wheel).items() if k.endswith(f'.dist-info/{file}'))

@pytest.fixture(scope='session')
def about(wheel): return message_from_bytes(info(wheel, 'METADATA'))

# What is in them

def test_wheel_holds_the_package_and_nothing_else(wheel, tracked):
    files = contents(wheel)
    package = {o for o in tracked if o.startswith(f'{name}/')}
    assert {o for o in files if '.dist-info/' not in o}==package
    assert {o.split('/')[2] for o in package if '/templates/' in o}=={'app','lambda','space','web'}
    assert {o.split('/', 2)[2] for o in package if '/pretrained/' in o}=={'summer2winter/README.md','summer2winter/model.safetensors'}
    for o in package: assert files[o]==(root/o).read_bytes()
    assert {o.split('.dist-info/')[1] for o in files if '.dist-info/' in o}=={
        'METADATA','WHEEL','RECORD','entry_points.txt','top_level.txt','licenses/LICENSE'}
    assert wheel.name.endswith('-py3-none-any.whl')

def test_sdist_holds_what_the_wheel_is_built_from(dists, tracked):
    with tarfile.open(dists[1]) as t: files = {o.name.split('/', 1)[1] for o in t if o.isfile()}
    ours = {o for o in files if not o.startswith(f'{name}.egg-info/')}
    assert ours=={*(o for o in tracked if o.startswith(f'{name}/')), 'setup.py','pyproject.toml','settings.ini','MANIFEST.in',
                  'README.md','CHANGELOG.md','SECURITY.md','CONTRIBUTING.md','LICENSE', 'PKG-INFO','setup.cfg'} # setuptools makes these two

def test_sdist_and_tree_give_the_same_wheel(wheel, tree):
    again, = build(tree, tree.parent/'direct', '--wheel')
    assert again.name==wheel.name and contents(again)==contents(wheel)

# Metadata

def test_metadata(about, cfg, wheel):
    assert (about['Name'], about['Version'], about['Summary'])==(name, cfg['version'], cfg['description'])
    assert (about['Requires-Python'], about['License-Expression'])==('>='+cfg['min_python'], cfg['license'])
    asked = {k.removesuffix('requirements').rstrip('_'): v.split() for k,v in cfg.items() if k.endswith('requirements')}
    assert {'dev','onnx','app','video','inception','distributed'}=={*about.get_all('Provides-Extra')}==asked.keys()-{''}
    got = [Requirement(o) for o in about.get_all('Requires-Dist')]
    for extra,reqs in asked.items():
        mine = [o for o in got if bool(o.marker)==bool(extra) and (not extra or o.marker.evaluate({'extra': extra}))]
        assert {(o.name, o.specifier) for o in mine}=={(o.name, o.specifier) for o in map(Requirement, reqs)}, extra

def test_extras_for_users_are_in_dev(cfg):
    "So that whoever runs the tests runs those of the extras, too"
    dev = cfg['dev_requirements'].split()
    for o in 'onnx','app','video','inception': assert {*cfg[f'{o}_requirements'].split()} <= {*dev}, o

def test_entry_points(wheel):
    parser = ConfigParser(delimiters=['='])
    parser.read_string(info(wheel, 'entry_points.txt').decode())
    assert {k: dict(v) for k,v in parser.items() if v}=={'console_scripts': {'cyclegan-fastai': f'{name}.cli.main:main'}, 'nbdev': {name: f'{name}._modidx:d'}}

def test_description_stands_alone(about):
    "On a package index there is no repository around the README"
    assert about['Description-Content-Type']=='text/markdown'
    text = about.get_payload()
    assert text.lstrip().startswith(f'# {name}')
    links = re.findall(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"', text)
    assert len(links)>10 and not [o for o in map(''.join, links) if not re.match('https?://|mailto:|#', o)]
    here = {m[1] for m in re.finditer(rf'{re.escape(about.get("Project-URL").split()[-1])}/(?:raw|blob)/main/([^)"#\s]+)', text)}
    assert here and not [o for o in here if not (root/o).exists()]

# Versions of Python

def test_pythons_are_those_that_are_tried(about, cfg):
    said = [m[1] for o in about.get_all('Classifier') if (m := re.search(r':: (3\.\d+)$', o))]
    workflow = (root/'.github'/'workflows'/'test.yaml').read_text(encoding='utf-8').split('  smoke:\n')[1]
    assert re.findall(r'"(3\.\d+)"', re.search(r'python-version: (\[.*\])', workflow)[1])==said
    assert said[0]==cfg['min_python']==re.search(r'- python-version: "(.*)"\n\s+resolution: lowest-direct', workflow)[1]

def test_syntax_of_the_oldest_python(tracked, cfg):
    oldest = tuple(map(int, cfg['min_python'].split('.')))
    files = [o for o in tracked if o.endswith('.py')]
    assert files
    for o in files: ast.parse((root/o).read_text(encoding='utf-8'), o, feature_version=oldest)

# Elsewhere

@pytest.fixture(scope='session')
def installed(wheel, tmp_path_factory):
    "The wheel, unpacked by pip into a folder of its own"
    pytest.importorskip('pip', reason='no pip')
    target = tmp_path_factory.mktemp('elsewhere')/'site'
    run(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', '--no-compile', '--target', target, wheel, cwd=target.parent)
    return target

@pytest.fixture
def elsewhere(installed, tmp_path):
    "Run something in an empty folder, with the installed copy"
    env = dict(PYTHONPATH=str(installed), FASTAI_HOME=str(tmp_path/'home'), PYTHONWARNINGS='ignore', OMP_NUM_THREADS='1')
    (tmp_path/'empty').mkdir()
    return lambda *args: run(*args, env=env, cwd=tmp_path/'empty')

def test_training(installed, elsewhere):
    "The script that `.ci/smoke` runs in an environment of its own"
    script, = re.findall(r"cat >train.py <<'PY'\n(.*?)\nPY\n", (root/'.ci'/'smoke').read_text(encoding='utf-8'), re.S)
    assert '0 ' in elsewhere(sys.executable, '-c', script, installed)

def test_command_line(installed, elsewhere):
    assert 'evaluate' in elsewhere(sys.executable, installed/'bin'/'cyclegan-fastai', '--help')

def test_templates_are_found(installed, elsewhere):
    code = f'''import {name}; from pathlib import Path
print(*sorted(o.name for o in (Path({name}.__file__).parent/'templates').iterdir()), {name}.__file__)'''
    *names,file = elsewhere(sys.executable, '-c', code).split()
    assert names==['app','lambda','space','web'] and Path(file).is_relative_to(installed)

def test_it_translates_right_after_installation(installed, elsewhere):
    "Nothing is fetched; what is fetched all the same fails"
    code = f'''import sys
def no_network(event, args):
    if event in ('socket.connect','socket.getaddrinfo'): raise OSError(f'{{event}} {{args}}')
sys.addaudithook(no_network)
from PIL import Image
Image.new('RGB', (40,32), 'green').save('photo.jpg')
sys.argv[1:] = ['translate','photo.jpg']
from cyclegan_fastai.cli import main as cli
try: cli.main()
except SystemExit as e: assert not e.code
assert Image.open('translated/photo_winter.jpg').size==(40,32)
assert 'fastai' not in sys.modules and cli.__file__.startswith({str(installed)!r}), cli.__file__'''
    assert '1 translated' in elsewhere(sys.executable, '-c', code)

def test_import_takes_little_longer_than_fastai():
    "At most a tenth of the processor time of fastai's own"
    code = '''from time import process_time as t
a = t()
import fastai.vision.all
b = t()
from cyclegan_fastai.all import *
print((t()-b)/(b-a))'''
    ratios = []
    for _ in range(3): # the first may have to write byte code, and others use the machine, too
        ratios.append(float(run(sys.executable, '-c', code, cwd=root).split()[-1]))
        if ratios[-1] <= .1: break
    assert min(ratios) <= .1, ratios
