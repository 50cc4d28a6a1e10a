"What SECURITY.md promises: nothing that is read runs code, and no code of ours opens a way to it"
import ast, os, pickle, re, subprocess
from pathlib import Path

import pytest
from PIL import Image

from cyclegan_fastai.data.download import untar_unpaired
from cyclegan_fastai.data.files import open_image
from cyclegan_fastai.data.inspect import verify_unpaired
from cyclegan_fastai.use.translator import Translator
from cyclegan_fastai.core.photo import as_photo

root = Path(__file__).resolve().parents[1]

# Our own code

def is_python(fn): return fn.suffix=='.py' or fn.name.endswith('.py.txt') or fn.parent.name=='.ci' and fn.read_text().startswith('#!/usr/bin/env python')
sources = [o for folder in ('cyclegan_fastai','.ci') for o in sorted((root/folder).rglob('*')) if o.is_file() and '__pycache__' not in o.parts and is_python(o)]
sources.append(root/'setup.py')

forbidden = set('''eval exec compile __import__ input breakpoint os.system os.popen subprocess.getoutput subprocess.getstatusoutput tempfile.mktemp
    load_learner load_pickle pickle.load pickle.loads pickle.Unpickler torch.jit.load torch.package torch.hub.load torch.ops.load_library
    yaml.load yaml.unsafe_load yaml.full_load yaml.load_all importlib.import_module runpy.run_path runpy.run_module
    shutil.unpack_archive untar_data download_url urllib.request.urlopen urllib.request.urlretrieve ssl._create_unverified_context'''.split())
forbidden_modules = {'marshal','shelve','dill','cloudpickle','joblib','code','imp'}
unsafe_calls = { # call → is it dangerous with these arguments?
    'torch.load': lambda kw: kw.get('weights_only')!='True',
    'torch.hub.load_state_dict_from_url': lambda kw: (kw.get('weights_only'), kw.get('check_hash'))!=('True','True'),
    'np.load': lambda kw: 'allow_pickle' in kw, 'numpy.load': lambda kw: 'allow_pickle' in kw}

allowed = { # (file, what) → why
    ('use/translator.py', 'load_learner'): 'behind `--trust`, which says what it means',
    ('use/export.py', 'torch.jit.load'): 'the file that the lines above have written',
    ('core/device.py', 'importlib.import_module'): '`need`: names of packages, written in our own code',
    ('cli/model.py', 'importlib.import_module'): 'modules of this package, from a table',
    ('run/competitors.py', 'importlib.import_module'): 'three modules of UPIT, from a table'}

def found(src):
    "(line, what) of each thing in `src` that SECURITY.md says isn't there"
    tree = ast.parse(src)
    names = {} # as they are called here → what they are
    for o in ast.walk(tree):
        if isinstance(o, ast.Import): names |= {a.asname or a.name.split('.')[0]: a.name if a.asname else a.name.split('.')[0] for a in o.names}
        elif isinstance(o, ast.ImportFrom) and not o.level: names |= {a.asname or a.name: f'{o.module}.{a.name}' for a in o.names}
    def full(o):
        "The dotted name of an expression, if it is one"
        if isinstance(o, ast.Name): return names.get(o.id, o.id)
        if isinstance(o, ast.Attribute) and (head := full(o.value)): return f'{head}.{o.attr}'.removeprefix('builtins.')
    for o in ast.walk(tree):
        modules = [a.name for a in o.names] if isinstance(o, ast.Import) else [o.module or ''] if isinstance(o, ast.ImportFrom) else []
        yield from ((o.lineno, m) for m in modules if m.split('.')[0] in forbidden_modules)
        if isinstance(o, (ast.Name,ast.Attribute)):
            name = full(o) or ''
            if hit := next((k for k in forbidden if name==k or name==f'fastai.learner.{k}'), None): yield o.lineno, hit
        if not isinstance(o, ast.Call): continue
        name,kw = full(o.func) or '',{k.arg: ast.unparse(k.value) for k in o.keywords}
        if kw.get('shell', 'False')!='False': yield o.lineno, 'shell'
        if kw.get('verify', 'True')=='False': yield o.lineno, 'verify=False'
        if kw.get('trust_remote_code', 'False')!='False': yield o.lineno, 'trust_remote_code'
        if isinstance(o.func, ast.Attribute) and o.func.attr=='extractall': yield o.lineno, 'extractall'
        if name in unsafe_calls and unsafe_calls[name](kw): yield o.lineno, name
        if name.startswith('subprocess.') and o.args and not isinstance(o.args[0], (ast.List,ast.Name)): yield o.lineno, 'a command that is no list'

def place(fn):
    "`wing/module.py`, or the path of a file that is no module"
    return fn.relative_to(root).as_posix().removeprefix('cyclegan_fastai/')

@pytest.mark.parametrize('fn', sources, ids=place)
def test_our_code_runs_no_others(fn):
    wrong = [f'{place(fn)}:{line}: {what}' for line,what in found(fn.read_text(encoding='utf-8')) if (place(fn), what) not in allowed]
    assert not wrong

def test_every_exception_is_needed():
    there = {(place(fn), what) for fn in sources for _,what in found(fn.read_text(encoding='utf-8'))}
    assert allowed.keys()<=there

@pytest.mark.parametrize('line,what', [
    ('eval(x)', 'eval'), ('map(exec, x)', 'exec'), ('import builtins; builtins.eval(x)', 'eval'), ('import os as o; o.system(x)', 'os.system'), ('from os import popen as p; p(x)', 'os.popen'),
    ('import pickle; pickle.loads(x)', 'pickle.loads'), ('from pickle import load; load(x)', 'pickle.load'), ('import pickle as p; p.Unpickler(x)', 'pickle.Unpickler'),
    ('torch.load(x)', 'torch.load'), ('torch.load(x, weights_only=False)', 'torch.load'), ('torch.load(x, weights_only=y)', 'torch.load'), ('from torch import load; load(x)', 'torch.load'),
    ('torch.hub.load_state_dict_from_url(x, weights_only=True)', 'torch.hub.load_state_dict_from_url'), ('import numpy; numpy.load(x, allow_pickle=True)', 'numpy.load'),
    ('import yaml; yaml.load(x)', 'yaml.load'), ('import marshal', 'marshal'), ('from cloudpickle import loads', 'cloudpickle'), ('import tempfile; tempfile.mktemp()', 'tempfile.mktemp'),
    ('import subprocess; subprocess.run(x, shell=True)', 'shell'), ('import subprocess; subprocess.run(f"ls {x}")', 'a command that is no list'), ('z.extractall(x)', 'extractall'),
    ('requests.get(x, verify=False)', 'verify=False'), ('load_learner(x)', 'load_learner'), ('from fastai.learner import load_learner; load_learner(x)', 'load_learner'),
    ('net.eval()', None), ('torch.load(x, weights_only=True)', None), ('import json; json.load(x)', None), ('import subprocess; subprocess.run(["ls", x])', None), ('np.load(x)', None)])
def test_the_search_finds(line, what): assert {o for _,o in found(line)}==({what} if what else set())

def test_pages_run_nothing_that_they_are_given():
    "No `eval` in the scripts of the pages; and the page without a server forbids it, too"
    templates = root/'cyclegan_fastai'/'templates'
    for fn in (o for k in ('js','html') for o in templates.rglob(f'*.{k}')):
        assert not re.search(r'\beval\(|new Function|document\.write|insertAdjacentHTML|\.innerHTML', fn.read_text(encoding='utf-8')), fn
    policy = re.search(r'Content-Security-Policy" content="([^"]*)', (templates/'web'/'index.html').read_text(encoding='utf-8'))[1]
    scripts = next(o for o in policy.split(';') if o.strip().startswith('script-src')).split()[1:]
    assert "default-src 'none'" in policy and set(scripts)=={"'self'","'wasm-unsafe-eval'"}

# Files of strangers. Checkpoints: test_learner.py; `model.pkl`: test_inference.py; weights of Inception: test_metrics.py

class Evil:
    def __reduce__(self): return Path.touch, (Path(os.environ['EVIL']),)

@pytest.fixture
def evil(tmp_path, monkeypatch):
    "A pickle that leaves a file when it is loaded; it must not"
    monkeypatch.setenv('EVIL', str(tmp_path/'it ran'))
    monkeypatch.setenv('FASTAI_HOME', str(tmp_path/'fastai'))
    content = pickle.dumps(Evil())
    yield content
    assert not (tmp_path/'it ran').exists()
    pickle.loads(content)
    assert (tmp_path/'it ran').exists(), 'the file is harmless, the test proves nothing'

@pytest.mark.parametrize('name', ['x.safetensors','x.onnx','model.safetensors','a_to_b.onnx'])
def test_a_pickle_is_no_model(evil, tmp_path, name):
    if name.endswith('onnx'): pytest.importorskip('onnxruntime')
    folder = tmp_path/'model'
    folder.mkdir()
    (folder/name).write_bytes(evil)
    with pytest.raises(ValueError, match='is damaged, or no'): Translator.load(folder if name in ('model.safetensors','a_to_b.onnx') else folder/name)

@pytest.mark.parametrize('ending', ['jpg','png','tif','webp'])
def test_a_pickle_is_no_image(evil, tmp_path, ending):
    for k in 'AB':
        (tmp_path/'data'/k).mkdir(parents=True)
        for i in range(2): Image.new('RGB', (8,8), (99*i, 9, 'AB'.index(k))).save(tmp_path/'data'/k/f'sound {i}.png')
    (fn := tmp_path/'data'/'A'/f'x.{ending}').write_bytes(evil)
    with pytest.raises(ValueError, match="can't be read as an image"): open_image(fn)
    assert verify_unpaired(tmp_path/'data').problem.tolist()==['damaged']

@pytest.mark.parametrize('name', ['data.zip','data.tar.gz','data.tar','data.pkl'])
def test_a_pickle_is_no_data_set(evil, tmp_path, name):
    (tmp_path/name).write_bytes(evil)
    with pytest.raises(ValueError, match='neither a zip nor a tar'): untar_unpaired(tmp_path/name)

def test_postscript_is_not_run(tmp_path, monkeypatch):
    "Pillow hands it to Ghostscript, whatever the file is called"
    from PIL import EpsImagePlugin
    tool, ran = tmp_path/'bin'/'gs', tmp_path/'it ran'
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\ntouch "{ran}"\nexit 1\n'); tool.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tool.parent}{os.pathsep}{os.environ["PATH"]}')
    monkeypatch.setattr(EpsImagePlugin, 'gs_binary', str(tool))
    Image.new('RGB', (8,8)).save(tmp_path/'x.eps')
    fn = (tmp_path/'x.eps').rename(tmp_path/'holiday.jpg')
    for f in (open_image, as_photo):
        with pytest.raises(ValueError, match="can't be read as an image"): f(fn)
    assert not ran.exists()
    with pytest.raises(subprocess.CalledProcessError): Image.open(fn).load()
    assert ran.exists(), 'Ghostscript would not have been called, the test proves nothing'

# The promises

def test_security_note_names_tests_that_exist():
    named = re.findall(r'`(tests/\w+\.py)(?:::(\w+))?`', (root/'SECURITY.md').read_text(encoding='utf-8'))
    assert len(named)>=10
    for file,test in named: assert f'def {test or "test_"}' in (root/file).read_text(encoding='utf-8'), (file, test)
