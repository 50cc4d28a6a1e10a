"The embedded data set: determinism, layout, truth, and what happens when things go wrong"
import json
from pathlib import Path

import numpy as np, pytest
from PIL import Image

import cyclegan_fastai.data.seasons as module
from cyclegan_fastai.data.seasons import Scene, draw_scene, seasons, _pictures

SIZES = dict(n_train=3, n_test=2, size=32, seed=5)
SAMPLE = Path(__file__).resolve().parents[1]/'data/seasons_sample'

def contents(path): return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob('*')) if f.is_file()}
def pixels(file): return np.asarray(Image.open(file).convert('RGB'), dtype=float)

@pytest.fixture(scope='module')
def made(tmp_path_factory): return seasons(**SIZES, path=tmp_path_factory.mktemp('seasons')/'made')

def test_layout(made):
    assert {f.name: len(list(f.iterdir())) for f in made.iterdir() if f.is_dir()} == dict(
        trainA=3, trainB=3, testA=2, testB=2, truthA=2, truthB=2)
    assert {f.name for f in made.iterdir() if f.is_file()} == {'README.txt', 'settings.json'}
    for f in made.rglob('*.png'):
        with Image.open(f) as img: assert (img.size, img.mode, img.format) == ((32, 32), 'RGB', 'PNG')

def test_same_seed_same_bytes(made, tmp_path):
    assert contents(seasons(**SIZES, path=tmp_path/'again')) == contents(made)
    other = contents(seasons(**SIZES | dict(seed=6), path=tmp_path/'other'))
    assert not {v for k,v in other.items() if k.endswith('.png')} & set(contents(made).values())

def test_asking_for_more_keeps_the_first(made, tmp_path):
    more = contents(seasons(**SIZES | dict(n_train=4, n_test=3), path=tmp_path/'more'))
    assert all(more[k]==v for k,v in contents(made).items() if k.endswith('.png'))

def test_truth_is_the_same_scene_in_the_other_season(made):
    scenes = {name: (scene, season) for name,scene,season in _pictures(3, 2, 5)}
    assert scenes.keys() == {k for k in contents(made) if k.endswith('.png')}
    for given,truth in (('testA', 'truthB'), ('testB', 'truthA')):
        assert [f.name for f in sorted((made/given).iterdir())] == [f.name for f in sorted((made/truth).iterdir())]
        for f in (made/given).iterdir():
            (scene, season), (scene2, season2) = scenes[f'{given}/{f.name}'], scenes[f'{truth}/{f.name}']
            assert scene==scene2 and {season, season2}=={'summer', 'winter'}
            assert (pixels(made/truth/f.name) == np.asarray(draw_scene(scene, season2, 32))).all()

def test_unpaired():
    by_folder = {}
    for name,scene,_ in _pictures(50, 50, 42): by_folder.setdefault(name.split('/')[0], set()).add(scene.seed)
    given = [by_folder[k] for k in ('trainA', 'trainB', 'testA', 'testB')]
    assert len(set.union(*given)) == 200
    assert by_folder['truthB']==by_folder['testA'] and by_folder['truthA']==by_folder['testB']

@pytest.mark.parametrize('i', range(4))
def test_same_scene_at_other_sizes(i):
    scene = Scene.random(np.random.default_rng([1, i]))
    small, large = (np.asarray(draw_scene(scene, 'summer', n).resize((32, 32), Image.BOX), dtype=float)
                    for n in (64, 192))
    assert np.abs(small-large).mean() < 8

def test_corners_of_a_scene():
    "Nothing there, or everything at once"
    bare = dict(lake=0., forest=0., fields=0., trees=0, flowers=0., clouds=0., peaks=0.)
    full = dict(lake=.3, forest=1.5, fields=1., trees=30, flowers=1., clouds=1., peaks=.5, cabin=True)
    for kwargs in (bare, dict(hour=6, sun=1., horizon=.36), full | dict(hour=20, horizon=.54)):
        for season in ('summer', 'winter'):
            for size in (16, 33): assert draw_scene(Scene(seed=0, **kwargs), season, size).size == (size, size)

def test_finished_folder_is_reused(made, monkeypatch):
    monkeypatch.setattr(module, 'draw_scene', lambda *a: pytest.fail('drawn again'))
    assert seasons(**SIZES, path=str(made)) == made

def test_default_path(monkeypatch, tmp_path):
    monkeypatch.setattr('fastai.data.external.fastai_path', lambda folder: tmp_path/folder)
    assert seasons(1, 0, 16, 3) == tmp_path/'data'/'seasons_1_0_16_3'

def test_empty_folder_and_new_parents(tmp_path):
    (tmp_path/'empty').mkdir()
    for path in (tmp_path/'empty', tmp_path/'a'/'b'): assert len(list(seasons(1, 0, 16, path=path).rglob('*.png'))) == 2

@pytest.mark.parametrize('spoil,why', [
    (lambda p: (p/'mine.txt').write_text('mine'), 'not made by'),
    (lambda p: (p/'settings.json').write_text('{'), 'not made by'),
    (lambda p: seasons(1, 1, 16, 3, path=p), 'made with'),
    (lambda p: (seasons(2, 0, 16, 3, path=p)/'trainA/summer_0001.png').unlink(), 'incomplete')])
def test_foreign_folder_is_refused(tmp_path, spoil, why):
    path = tmp_path/'there'
    if why=='not made by': path.mkdir()
    spoil(path)
    before = contents(path)
    with pytest.raises(ValueError, match=rf'`path` must be .*{why}.*: pass another `path`, or delete'):
        seasons(2, 0, 16, 3, path=path)
    assert contents(path)==before and [p.name for p in tmp_path.iterdir()]==['there']

def test_a_file_is_refused(tmp_path):
    (tmp_path/'file').write_text('mine')
    with pytest.raises(ValueError, match='`path` must be'): seasons(1, 0, 16, path=tmp_path/'file')

def test_bad_season():
    with pytest.raises(ValueError, match="`season` must be 'summer' or 'winter', got 'autumn'"):
        draw_scene(Scene(seed=0), 'autumn')

@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError])
def test_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch, error):
    drawn = []
    def stops(*args):
        drawn.append(args)
        if len(drawn)==3: raise error
        return draw_scene(*args)
    monkeypatch.setattr(module, 'draw_scene', stops)
    with pytest.raises(error): seasons(**SIZES, path=tmp_path/'x')
    assert len(drawn)==3 and not list(tmp_path.iterdir())

def test_shipped_sample():
    "What lies in data/ is what the code draws (to a rounding, on other machines)"
    assert json.loads((SAMPLE/'settings.json').read_text())['seed'] == 7
    pictures = list(_pictures(24, 4, 7))
    assert {name for name,*_ in pictures} == {f.relative_to(SAMPLE).as_posix() for f in SAMPLE.rglob('*.png')}
    for name,scene,season in pictures[::8]: assert np.abs(pixels(SAMPLE/name)-np.asarray(draw_scene(scene, season))).mean() < 1
