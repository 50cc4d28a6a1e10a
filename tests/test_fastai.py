"What a user of fastai tries works as in fastai, or says why it can't and what to use instead"
import warnings
import pytest, torch
from fastai.vision.all import *
from cyclegan_fastai.data.seasons import seasons
from cyclegan_fastai.data.digits import small_digits
from cyclegan_fastai.data.files import image_files
from cyclegan_fastai.data.show import show_rows
from cyclegan_fastai.data.tensors import tensor_dls
from cyclegan_fastai.data.unpaired import *
from cyclegan_fastai.game.gamelearner import *
from cyclegan_fastai.game.gans import GAN
from cyclegan_fastai.game.learner import *

@pytest.fixture(scope='module')
def data(tmp_path_factory): return seasons(8, 6, 32, 1, tmp_path_factory.mktemp('data')/'seasons')

def loaders(data, **kwargs): return UnpairedDataLoaders.from_folder(data, **{**dict(size=32, bs=6, domains=('summer','winter'), device='cpu'), **kwargs})
def make(data, out, bs=6, **kwargs):
    learn = cyclegan_learner(loaders(data, bs=bs), n_blocks=1, nf=4, path=out, **kwargs)
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn

@pytest.fixture(scope='module')
def learn(data, tmp_path_factory): return make(data, tmp_path_factory.mktemp('learner'))

@pytest.fixture(autouse=True)
def no_figures():
    plt.close('all')
    yield
    plt.close('all')

def drawn():
    "Titles of the lines of the current figure, images in each line, and its size in inches"
    axes = [o for o in plt.gcf().axes if o.images]
    lines = groupby(axes, lambda o: round(o.get_position().y0, 3))
    lines = [lines[k] for k in sorted(lines, reverse=True)]
    return [o[0].get_ylabel() for o in lines], [len(o) for o in lines], [*plt.gcf().get_size_inches()]

# Pictures

GRIDS = [                                                        # arguments, lines of pairs, images in each
    (dict(max_n=4), 1, [4]), (dict(nrows=2), 2, [3,3]), (dict(ncols=4), 2, [4,2]), (dict(nrows=2, ncols=2), 2, [2,2]),
    (dict(nrows=1, ncols=3), 1, [3]), (dict(nrows=4, ncols=5), 2, [5,1]), (dict(nrows=9), 6, [1]*6)]

@pytest.mark.parametrize('kwargs,n,images', GRIDS, ids=str)
def test_show_batch_takes_rows_and_columns(data, kwargs, n, images):
    dls = loaders(data)
    b = dls.valid.one_batch()
    dls.show_batch(b, **kwargs)
    titles,counts,_ = drawn()
    assert titles==['summer','winter']*n and counts==[o for o in images for _ in 'ab']
    shown = [o.images[0].get_array() for o in plt.gcf().axes]
    first = (b[0][0].permute(1,2,0).numpy()+1)/2, (b[1][images[0]-1].permute(1,2,0).numpy()+1)/2
    for x,i in zip(first, (0, 2*images[0]-1)): np.testing.assert_allclose(shown[i], x, atol=1e-5)

def test_pictures_take_a_figsize(learn):
    for f in (learn.dls.show_batch, learn.dls.valid.show_batch, learn.show_results):
        f(max_n=2, figsize=(7,5))
        assert drawn()[2]==[7,5]

@pytest.mark.parametrize('bad', [dict(nrows=0), dict(ncols=0), dict(nrows=1.5)], ids=str)
def test_wrong_rows_and_columns(learn, bad):
    with pytest.raises(ValueError, match=f'`{first(bad)}` must be a whole number'): learn.dls.show_batch(**bad)

def test_show_results_takes_rows_and_columns(learn):
    learn.show_results(max_n=4, ncols=2)
    titles,counts,_ = drawn()
    assert titles[:3]==['real summer','to winter','back to summer'] and titles[:6]==titles[6:] and counts==[2]*12

@pytest.mark.parametrize('split', [0, 1])
def test_unique_shows_one_pair(data, split):
    dls = loaders(data, load=32, aug_tfms=[]) if split==0 else loaders(data)
    dls[split].show_batch(unique=True)
    shown = [o.images[0].get_array() for o in plt.gcf().axes]
    assert len(shown)==12 and not np.array_equal(shown[0], shown[6])                # summer, winter
    assert all(np.array_equal(shown[0], o) for o in shown[:6]) and all(np.array_equal(shown[6], o) for o in shown[6:])

def test_unique_shows_the_augmentation(data):
    loaders(data).show_batch(unique=True)
    shown = [o.images[0].get_array() for o in plt.gcf().axes]
    assert not np.array_equal(shown[0], shown[1])

def test_show_results_of_any_game(tmp_path):
    x,_ = small_digits()
    game = GAN(nn.Sequential(nn.Linear(100, 64), nn.Unflatten(1, (1,8,8))), nn.Sequential(nn.Flatten(), nn.Linear(64, 1)))
    learn = game_learner(tensor_dls((x[:64],), (x[64:96],), bs=16, device='cpu'), game, path=tmp_path)
    learn.show_results(max_n=3)
    assert drawn()[:2]==(['real','fake'], [3,3])

# Loaders

def items(data, *domains): return [[f, d] for d in domains for f in image_files(data/{'summer':'testA','winter':'testB'}[d])]

def test_test_dl(learn, data):
    dl = learn.dls.test_dl(items(data, 'summer', 'winter'))
    play,reals = learn.get_preds(dl=dl)
    for x,k in zip(reals, ('A','B')):
        expected = torch.cat([o[k=='B'] for o in learn.dls.valid])
        assert torch.equal(torch.as_tensor(x), torch.as_tensor(expected))
    assert learn.validate(dl=dl)==learn.validate()
    learn.show_results(dl=dl, max_n=2)

def test_test_dl_of_files_says_what_to_use(learn, data):
    files = image_files(data/'testA')
    for o in (files, [*map(str, files)]):
        with pytest.raises(TypeError, match=r'`test_dl` makes pairs, .* `\[file, domain\]`, .*use `learn.translator\(\)\(files, to\)`'): learn.dls.test_dl(o)
    with pytest.raises(ValueError, match=r'`test_dl` needs both, too: `learn.translator\(\)\(files, to\)`'): learn.dls.test_dl(items(data, 'summer'))
    assert len(learn.translator()(files, 'winter'))==6
    block = DataBlock(UnpairedBlock(size=32), get_items=partial(get_image_files, folders=['trainA','trainB']), splitter=RandomSplitter(seed=1))
    with pytest.raises(ValueError, match='or to `test_dl` items of both'): block.dataloaders(data, bs=2).test_dl(files)

@pytest.mark.parametrize('name', ['item_tfms','batch_tfms'])
def test_transforms_have_other_names(data, name):
    with pytest.raises(TypeError, match=f"`{name}` isn't known here: `size`.*`aug_tfms=aug_transforms"): loaders(data, **{name: aug_transforms()})

def test_a_loaded_learner_has_no_images_to_show(data, tmp_path):
    make(data, tmp_path).export()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        loaded = load_learner(tmp_path/'export.pkl')
    assert not [o for o in found if 'shadowing' in str(o.message)]
    with pytest.raises(ValueError, match='no images to show; .* pass a loader as `dl`'): loaded.show_results()
    loaded.show_results(dl=loaders(data).valid, max_n=2)
    with pytest.raises(TypeError, match='`test_dl` makes pairs'): loaded.dls.test_dl(image_files(data/'testA'))

# Training

@pytest.mark.parametrize('cls', [MixUp, CutMix])
def test_mixed_images_are_refused(data, tmp_path, cls):
    learn = make(data, tmp_path, cbs=cls())
    before = [p.detach().clone() for p in learn.model.parameters()]
    message = f'`{cls.__name__}` mixes images and their targets, and a game has no targets: .*`augmented=True`'
    for f in (partial(learn.fit, 1), learn.lr_find):
        with pytest.raises(TypeError, match=message): f()
    learn.remove_cb(learn.cbs.filter(risinstance(cls))[0])
    with pytest.raises(TypeError, match=message): learn.fit_flat_lin(1, 1, cbs=cls())
    assert all(map(torch.equal, before, learn.model.parameters()))
    learn.fit(1)

class Fails(Callback):
    "Fails at its event, and again where it should clean up"
    order = -5
    def before_batch(self): raise ZeroDivisionError('the cause')
    def after_cancel_batch(self): raise AttributeError('what it has not begun')

class Cleans(Callback):
    order,cleaned = 200,0
    def after_cancel_batch(self): self.cleaned += 1

def test_a_failing_end_hides_no_error(data, tmp_path):
    learn,cleans = make(data, tmp_path),Cleans()
    with pytest.raises(ZeroDivisionError, match='the cause'): learn.fit(1, cbs=[Fails(), cleans])
    assert cleans.cleaned==1

REFUSED = dict(
    fine_tune=(lambda learn: learn.fine_tune(1), 'the last group, which are the critics: .*`fit_flat_lin` or `fit_one_cycle`'),
    tta=(lambda learn: learn.tta(n=2), 'have no mean: use `predict` or `get_preds`'),
    losses=(lambda learn: learn.get_preds(with_loss=True), '`with_loss`, .* belongs to a batch: `validate`'),
    interpretation=(Interpretation.from_learner, '`Interpretation` .* `evaluate'),
    top_losses=(lambda learn: ClassificationInterpretation.from_learner(learn).plot_top_losses(4), '`Interpretation`'))

@pytest.mark.parametrize('name', REFUSED)
def test_what_makes_no_sense_says_so(data, tmp_path, name):
    f,message = REFUSED[name]
    learn = make(data, tmp_path)
    with pytest.raises(NotImplementedError, match=message): f(learn)
    assert not learn.loss_terms.history and (learn.opt is None or not learn.opt.frozen_idx)

FITS = dict(fit_one_cycle=lambda o: o.fit_one_cycle(1), fit_flat_cos=lambda o: o.fit_flat_cos(1), fit_sgdr=lambda o: o.fit_sgdr(1, 1), fit=lambda o: o.fit(1, 1e-4),
    lr_find=lambda o: o.lr_find(num_it=6, show_plot=False), validate=lambda o: o.validate(ds_idx=0), summary=lambda o: o.summary(),
    one_batch=lambda o: o.dls.one_batch(), show_training_loop=lambda o: o.show_training_loop(), clip=lambda o: o.fit(1, cbs=GradientClip()),
    accumulate=lambda o: o.fit(1, cbs=GradientAccumulation(12)), fp16=lambda o: o.to_fp16().to_fp32().fit(1), bf16=lambda o: o.to_bf16().fit(1))

@pytest.mark.parametrize('name', FITS)
def test_what_works_as_in_fastai(data, tmp_path, name): FITS[name](make(data, tmp_path))
