"Notebooks away from the project, as in Colab: their first cell installs it, and their last one lets them end"
import json, os, re, runpy, subprocess, sys, sysconfig, time
from pathlib import Path

import pytest

root = Path(__file__).resolve().parents[1]
colab = runpy.run_path(str(root/'.ci'/'colab'))
cfg = colab['cfg']

@pytest.mark.parametrize('fn', colab['notebooks'](), ids=lambda o: str(o.relative_to(root)))
def test_every_notebook_can_install_the_project(fn):
    nbformat = pytest.importorskip('nbformat')
    assert nbformat.read(fn, as_version=4)==colab['made'](fn), 'run .venv/bin/python .ci/colab'

def shell(*args, **kwargs):
    res = subprocess.run(list(map(str, args)), capture_output=True, text=True, **kwargs)
    if res.returncode: pytest.fail(res.stdout + res.stderr, pytrace=False)
    return res.stdout.strip()

@pytest.fixture
def repository(tmp_path):
    "The last commit, as the branch that notebooks install from"
    if subprocess.run(['git', 'rev-parse', '--verify', 'HEAD'], cwd=root, capture_output=True).returncode: pytest.skip('no commit to install: this is no clone')
    shell('git', 'clone', '-q', f'file://{root}', tmp_path/'repository')
    shell('git', '-C', tmp_path/'repository', 'checkout', '-q', '-B', cfg.branch)
    return tmp_path/'repository'

@pytest.fixture
def lacking(tmp_path):
    "The Python of an environment that has all that this one has, except for the project"
    deps = tmp_path/'deps'
    deps.mkdir()
    for folder in {sysconfig.get_path(o) for o in ('purelib','platlib')}:
        for o in Path(folder).iterdir():
            if cfg.lib_name not in o.name and o.suffix!='.pth' and not (deps/o.name).exists(): (deps/o.name).symlink_to(o)
    shell(sys.executable, '-m', 'venv', tmp_path/'env')
    python = tmp_path/'env'/'bin'/'python'
    shell(python, '-m', 'pip', 'uninstall', '-q', '-y', 'setuptools') # Python 3.11 puts one there that is too old to build the project
    packages = Path(shell(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'))
    (packages/'deps.pth').write_text(f'{deps}\n')
    return python

@pytest.mark.skipif(os.name=='nt', reason='environments look different on Windows')
def test_a_lone_notebook_installs_the_project(repository, lacking, tmp_path, monkeypatch):
    "A fresh kernel without it; git takes the public address for a clone of the last commit, and pip is kept from the network"
    nbformat,nbclient = pytest.importorskip('nbformat'),pytest.importorskip('nbclient')
    env = dict(GIT_CONFIG_COUNT='1', GIT_CONFIG_KEY_0=f'url.file://{repository}.insteadOf', GIT_CONFIG_VALUE_0=cfg.git_url,
               PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX='1', PIP_DISABLE_PIP_VERSION_CHECK='1', PIP_NO_BUILD_ISOLATION='0', # 0: pip reads it as the value of `build_isolation`
               IPYTHONDIR=str(tmp_path/'ipython'))
    spec = tmp_path/'jupyter'/'kernels'/'lone'
    spec.mkdir(parents=True)
    (spec/'kernel.json').write_text(json.dumps(dict(argv=[str(lacking), '-m', 'ipykernel_launcher', '-f', '{connection_file}'],
                                                    display_name='lone', language='python', env=env)))
    monkeypatch.setenv('JUPYTER_PATH', str(tmp_path/'jupyter'))
    for o in ('PYTHONPATH','PYTHONDONTWRITEBYTECODE','IN_TEST'): monkeypatch.delenv(o, raising=False)
    (folder := tmp_path/'empty').mkdir()

    lesson,exporting = [nbformat.read(repository/'nbs'/o, as_version=4).cells for o in ('lessons/01_gan.ipynb','data/10_tensors.ipynb')]
    imports = next(c for c in lesson if c.cell_type=='code' and re.search(rf'^from {cfg.lib_name}', c.source, re.M))
    nb = nbformat.v4.new_notebook()
    client = nbclient.NotebookClient(nb, kernel_name='lone', timeout=300, resources={'metadata': {'path': str(folder)}})
    def told(code):
        "What a cell prints; the error, if any, is the test's"
        nb.cells.append(nbformat.v4.new_code_cell(code))
        cell = client.execute_cell(nb.cells[-1], len(nb.cells)-1)
        return ''.join(o.get('text', '') for o in cell.outputs)
    with client.setup_kernel():
        has = f'from importlib.util import find_spec; print(find_spec("{cfg.lib_name}") is not None)'
        assert told(has)=='False\n'
        said = told(lesson[1].source)
        assert told(has)=='True\n', said
        start = time.perf_counter()
        assert told(lesson[1].source)=='' and time.perf_counter()-start < 1, 'the second time there is nothing to do'
        told(imports.source)
        about = told(f'''from importlib.metadata import distribution
o = distribution("{cfg.lib_name}")
print(o.locate_file(""), o.read_text("direct_url.json"), sep="\\n")''').splitlines()
        assert Path(about[0]).is_relative_to(tmp_path/'env')
        came = json.loads(about[1])
        assert came['url']==cfg.git_url and came['vcs_info']['commit_id']==shell('git', 'rev-parse', 'HEAD', cwd=root)
        for c in (exporting[1], exporting[-1]): told(c.source) # there is no project to write modules to
    assert not [*folder.iterdir()]
