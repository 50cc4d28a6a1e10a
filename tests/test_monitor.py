"The monitor: hits of the critics, curves, pictures, films, loggers"
import base64, io, random
from types import SimpleNamespace

import numpy as np, pytest, torch
from fastai.callback.core import Callback, CancelFitException
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import load_learner
from matplotlib import pyplot as plt
from PIL import Image, ImageSequence
from torch import nn

from cyclegan_fastai.data.unpaired import UnpairedDataLoaders
from cyclegan_fastai.game.game import Game
from cyclegan_fastai.game.gamelearner import game_learner
from cyclegan_fastai.game.learner import cyclegan_learner
from cyclegan_fastai.data.landscape import Scene, draw_scene
from cyclegan_fastai.nets.losses import critic_loss, generator_loss
from cyclegan_fastai.watch.monitor import CriticAccuracy, plot_losses, real_threshold
from cyclegan_fastai.watch.samples import ShowSamples, film, play_rows, sample_files, sample_grid
from cyclegan_fastai.data.seasons import seasons
from cyclegan_fastai.game.terms import LossTerms

@pytest.fixture(scope='module')
def path(tmp_path_factory): return seasons(n_train=5, n_test=3, size=32, path=tmp_path_factory.mktemp('seasons')/'s')

@pytest.fixture
def make(path, tmp_path):
    "A learner on five pairs, in batches of two: the last batch has one"
    def _make(seed=42, bs=2, bar=False, folder=tmp_path/'run', **kwargs):
        torch.manual_seed(seed); np.random.seed(seed); random.seed(seed)
        dls = UnpairedDataLoaders.from_folder(path, size=32, load=32, aug_tfms=[], bs=bs, domains=('summer','winter'), device='cpu')
        dls.train.drop_last = False
        learn = cyclegan_learner(dls, n_blocks=1, nf=4, path=folder, **kwargs)
        learn.logger = lambda *_: None
        if not bar: learn.remove_cb(learn.progress)
        return learn
    return _make

class Scores(Callback):
    "Keep all that critics said, by epoch and split"
    order = 60
    def before_fit(self): self.said = getattr(self, 'said', {})
    def after_loss(self):
        row = self.said.setdefault((len(self.learn.loss_terms.history), 'train' if self.training else 'valid'), [])
        row.append({k: [o.clone() for o in v] for k,v in self.learn.model.scores.items()})

def by_hand(batches, direction, what, form, images):
    "Share of hits, one score after the other"
    right,n = 0,0
    for scores in batches:
        real,fake = ([s.flatten().tolist() for s in o] for o in scores[direction])
        flat = lambda rows: [v for o in rows for v in o]
        limit = dict(least_squares=.5, cross_entropy=0., hinge=0.).get(form)
        if form=='wasserstein': limit = (np.mean(flat(real)) + np.mean(flat(fake)))/2
        for o in real if what=='real' else fake:
            for v in [np.mean(o)] if images else o:
                right,n = right + (v>limit if what=='real' else v<=limit),n+1
    return right/n

# How often critics are right

@pytest.mark.parametrize('form', ['least_squares','cross_entropy','hinge','wasserstein'])
@pytest.mark.parametrize('n_critic', [1,2])
def test_accuracies_are_those_counted_by_hand(make, form, n_critic):
    learn = make(adversarial=form, n_critic=n_critic, lr=1e-3, cbs=[CriticAccuracy(), Scores()])
    learn.fit(2)
    seen = set()
    for i,row in enumerate(learn.loss_terms.history):
        for split in ('train','valid'):
            batches = learn.scores.said[i,split]
            assert len(batches)==(3 if split=='train' else 2)
            for d in ('a2b','b2a'):
                for what in ('real','fake'):
                    for kind in ('accuracy','imageaccuracy'):
                        share = by_hand(batches, d, what, form, kind=='imageaccuracy')
                        assert row[f'{split}_{kind}_{what}_{d}']==pytest.approx(share), (i,split,d,what,kind)
                        seen.add(share)
    assert len(seen)>4, 'shares that differ, or this test tests nothing'

def test_threshold_is_where_an_answer_costs_the_same():
    "At the threshold a critic pays as much for calling a score real as for calling it fake"
    for form in ('least_squares','cross_entropy','hinge'):
        t = torch.tensor([real_threshold(form, None, None)])
        far = dict(least_squares=(1.,0.), cross_entropy=(40.,-40.), hinge=(1.,-1.))[form]         # where the other half costs nothing
        as_real,as_fake = critic_loss(t, torch.tensor([far[1]]), form),critic_loss(torch.tensor([far[0]]), t, form)
        assert as_real.item()==pytest.approx(as_fake.item(), abs=1e-6)

def test_accuracies_go_on_after_a_resume(make, tmp_path):
    whole = make(lr=1e-3, cbs=CriticAccuracy())
    whole.fit_flat_lin(2, 1)
    begun = make(lr=1e-3, cbs=CriticAccuracy())
    class Stop(Callback):
        def before_epoch(self):
            if self.epoch==1: begun.save('half'); raise CancelFitException
    begun.fit_flat_lin(2, 1, cbs=Stop())
    resumed = make(seed=7, lr=1e-3, cbs=CriticAccuracy()).load('half')
    resumed.fit_flat_lin(2, 1, start_epoch=resumed.epochs_done)
    assert resumed.loss_terms.history==whole.loss_terms.history and len(whole.loss_terms.history)==3
    assert sum('accuracy' in k for k in whole.loss_terms.history[-1])==16

def test_looking_leaves_no_accuracies_behind(make):
    learn = make(cbs=CriticAccuracy())
    learn.fit(1)
    before = dict(learn.loss_terms.history[0])
    learn.validate(); learn.get_preds()
    assert learn.loss_terms.history==[before]
    learn.fit(1)
    assert len(learn.loss_terms.history)==2 and learn.loss_terms.history[0]==before

class Points(Game):
    "One generator, one critic: numbers against numbers; the critic's scores have one dimension"
    judged = {'': ('fake','real')}
    def __init__(self, adversarial='least_squares'):
        super().__init__(['generator'], ['critic'], dict(adversarial=1., critic=1.))
        self.generator,self.critic,self.adversarial = nn.Linear(1,1),nn.Sequential(nn.Linear(1,1), nn.Flatten(0)),adversarial
    def forward(self, real): return dict(real=real, fake=self.generator(torch.randn_like(real)))
    def generators_pay(self, play): return dict(adversarial=generator_loss(self.critic(play['fake']), self.adversarial))
    def critics_pay(self, play): return dict(critic=self.judge('', self.critic(play['real']), self.critic(play['fake'])))

def points(**kwargs):
    data = torch.utils.data.TensorDataset(torch.randn(7,1)+3)                    # batches of four and three
    dls = DataLoaders(DataLoader(data, bs=4), DataLoader(data, bs=4), device='cpu')
    learn = game_learner(dls, Points(), pool_size=0, **kwargs)
    learn.logger = lambda *_: None
    learn.remove_cb(learn.progress)
    return learn

def test_a_game_without_directions_has_keys_without_them():
    learn = points(cbs=[CriticAccuracy(), Scores()], lr=.1)
    learn.fit(3)
    for i,row in enumerate(learn.loss_terms.history):
        assert {k for k in row if 'accuracy' in k}=={f'{s}_{k}_{w}' for s in ('train','valid') for k in ('accuracy','imageaccuracy') for w in ('real','fake')}
        for what in ('real','fake'):
            hand = by_hand(learn.scores.said[i,'train'], '', what, 'least_squares', False)
            assert row[f'train_accuracy_{what}']==row[f'train_imageaccuracy_{what}']==pytest.approx(hand)

def test_counting_waits_for_the_device_once_an_epoch(make, monkeypatch):
    learn = make(cbs=CriticAccuracy())
    counted = []
    class Look(Callback):
        order = CriticAccuracy.order+1
        def after_loss(self): counted.append(all(isinstance(hits, torch.Tensor) for hits,_ in self.learn.critic_accuracy.hits.values()))
    real = torch.Tensor.item
    class Forbid(Callback):
        "No number leaves the device between these two"
        order = CriticAccuracy.order-.5
        def after_loss(self):
            def no(*_): raise AssertionError('waits for the device')
            monkeypatch.setattr(torch.Tensor, 'item', no); monkeypatch.setattr(torch.Tensor, '__float__', no)
    class Allow(Callback):
        order = CriticAccuracy.order+.5
        def after_loss(self): monkeypatch.undo()
    learn.fit(1, cbs=[Forbid(), Allow(), Look()])
    assert torch.Tensor.item is real and counted==[True]*5

# Curves

def text(ax): return [o.get_text() for o in ax.texts]

def test_panels_follow_the_game(make):
    learn = make(lambda_identity=0., cbs=CriticAccuracy())
    learn.fit(2)
    fig = plot_losses(learn.loss_terms)
    assert [ax.get_title() for ax in fig.axes]==['adversarial','cycle','critic','critics right about real','critics right about fakes']
    learn = points()
    learn.fit(2)
    assert [ax.get_title() for ax in plot_losses(learn.loss_terms).axes]==['adversarial','critic']
    with pytest.raises(ValueError, match='train for an epoch first'): plot_losses(LossTerms())
    plt.close('all')

def test_the_bold_line_ends_an_epoch_at_the_number_of_the_table(make):
    learn = make(bs=1, lr=1e-3)
    learn.fit(3)
    ax = next(ax for ax in plot_losses(learn.loss_terms).axes if ax.get_title()=='cycle')
    bold = {o.get_label(): o.get_ydata() for o in ax.lines if not o.get_label().startswith('_')}
    dashed = [o for o in ax.lines if o.get_linestyle()=='--']
    for i,row in enumerate(learn.loss_terms.history):
        for k in 'ab': assert bold[k][5*(i+1)-1]==pytest.approx(row[f'train_cycle_{k}'])
    assert [list(o.get_ydata()) for o in dashed]==[[row[f'valid_cycle_{k}'] for row in learn.loss_terms.history] for k in 'ab']
    assert all(list(o.get_xdata())==[1,2,3] for o in dashed)
    plt.close('all')

@pytest.mark.parametrize('form,levels', [('least_squares', (.25,.5)), ('cross_entropy', (np.log(2),2*np.log(2))), ('wasserstein', (None,None))])
def test_equilibrium_is_what_a_critic_that_knows_nothing_pays(make, form, levels):
    learn = make(adversarial=form)
    learn.fit(1)
    axes = {ax.get_title(): ax for ax in plot_losses(learn.loss_terms).axes}
    for name,level in zip(('adversarial','critic'), levels):
        dotted = [o.get_ydata()[0] for o in axes[name].lines if o.get_linestyle()==':']
        assert dotted==([] if level is None else [pytest.approx(level)])
    assert not [o for o in axes['cycle'].lines if o.get_linestyle()==':']
    bare = SimpleNamespace(history=learn.loss_terms.history, curve=[])           # as read from a file
    assert not [o for ax in plot_losses(bare).axes for o in ax.lines if o.get_linestyle()==':']
    plt.close('all')

def test_alarms_are_marked_and_infinities_left_out(make):
    learn = make(bs=5)
    learn.fit(3)
    terms = learn.loss_terms
    terms.history[1]['alarms'] = {'collapse': 'all alike'}
    terms.history[2]['valid_cycle_a'] = terms.curve[0]['critic_a'] = float('inf')
    axes = plot_losses(terms).axes
    assert all(text(ax)==['collapse'] for ax in axes)
    assert all(np.isfinite(ax.get_ylim()).all() for ax in axes)
    plt.close('all')

# Pictures

def test_a_grid_is_the_images_themselves():
    red,grey = torch.tensor([1.,-1,-1])[:,None,None].expand(2,3,64,64),torch.linspace(-1, 1, 64).expand(2,1,64,64)
    im = np.array(sample_grid(dict(red=red, grey=grey), 'title'))
    left,top = im.shape[1]-2*66,18
    assert im.shape==(18+2*66, left+2*66, 3)
    assert (im[top:top+64, left:left+64]==[255,0,0]).all()
    want = ((grey[0,0]+1)*127.5).round().byte().numpy()
    assert (im[top+66:top+130, left+66:left+130]==want[:,:,None]).all()
    small = np.array(sample_grid(dict(x=grey[:,:,:32,:32])))                     # every pixel four times
    assert (small[top:top+64:2, -66:-2:2]==small[top+1:top+64:2, -65:-2:2]).all() and small.shape[0]==18+66
    assert sample_grid(dict(x=torch.zeros(1,3,256,256))).height==18+130

def test_rows_of_other_games():
    play = dict(real=torch.zeros(2,3,8,8), fake=torch.zeros(2,3,8,8), labels=torch.arange(2), shown=dict(fake=torch.zeros(2,3,8,8)))
    assert list(play_rows(play))==['real','fake']

def weights(learn): return torch.cat([p.detach().flatten() for p in learn.model.parameters()])

@pytest.mark.parametrize('ema', [None,.9])
def test_samples_change_nothing(make, tmp_path, ema):
    kwargs = dict(ema=ema, dropout=.3, lr=1e-3, lambda_consistency=1.)           # with noise in training from all generators
    bare,watched = (make(cbs=o, **kwargs) for o in (CriticAccuracy(), [CriticAccuracy(), ShowSamples(n=2, folder=tmp_path/'s')]))
    states = []
    for i,learn in enumerate((bare,watched)):
        torch.manual_seed(1); np.random.seed(1); random.seed(1)
        learn.dls.train.rng.seed(1)
        learn.fit(3)
        states.append((torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()))
    assert len(sample_files(tmp_path/'s'))==4
    assert torch.equal(weights(bare), weights(watched)) and bare.loss_terms.history==watched.loss_terms.history
    assert states[0]==states[1]
    if ema:
        with bare.averaged(), watched.averaged(): assert torch.equal(weights(bare), weights(watched))

def test_pictures_are_of_averaged_generators(make):
    learn = make(ema=.9, lr=1e-2, cbs=ShowSamples(n=2))
    learn.fit(2)
    shown = np.array(Image.open(sample_files(learn.show_samples.folder)[2]))
    assert (np.array(learn.show_samples.picture('epoch 2'))==shown).all()
    learn.generator_ema.averages = None
    assert not (np.array(learn.show_samples.picture('epoch 2'))==shown).all()

def test_numbers_are_epochs_done(make, tmp_path):
    learn = make(cbs=ShowSamples(every=2, n=1))
    folder = tmp_path/'run'/'samples'
    learn.fit(3); assert list(sample_files(folder))==[0,2,3]
    learn.fit(2); assert list(sample_files(folder))==[0,2,3,4,5]
    assert not list(folder.glob('*.part')) and learn.show_samples.folder==folder

def test_numbers_go_on_after_a_resume(make, tmp_path):
    whole = make(lr=1e-3, ema=.9, cbs=ShowSamples(n=2, folder=tmp_path/'whole'))
    whole.fit_flat_lin(3, 1)
    begun = make(lr=1e-3, ema=.9, cbs=ShowSamples(n=2, folder=tmp_path/'parts'))
    class Leave(Callback):
        order = 80
        def after_epoch(self):
            if self.epoch==1: begun.save('two')
            if self.epoch==2: raise CancelFitException                           # goes on past the checkpoint, then stops
    begun.fit_flat_lin(3, 1, cbs=Leave())
    assert list(sample_files(tmp_path/'parts'))==[0,1,2,3]
    times = {k: f.stat().st_mtime_ns for k,f in sample_files(tmp_path/'parts').items()}
    resumed = make(seed=5, lr=1e-3, ema=.9, cbs=ShowSamples(n=2, folder=tmp_path/'parts')).load('two')
    class Look(Callback):
        def before_batch(self): self.learn.began = getattr(self.learn, 'began', None) or list(sample_files(tmp_path/'parts'))
    resumed.fit_flat_lin(3, 1, start_epoch=resumed.epochs_done, cbs=Look())
    assert resumed.began==[0,1,2], 'the third belongs to epochs that are trained again'
    a,b = sample_files(tmp_path/'whole'),sample_files(tmp_path/'parts')
    assert list(a)==list(b)==[0,1,2,3,4] and all(a[k].read_bytes()==b[k].read_bytes() for k in a)
    assert b[1].stat().st_mtime_ns==times[1]

def test_a_new_run_in_an_old_folder_tells_its_own_story(make, tmp_path):
    make(cbs=ShowSamples(n=1, folder=tmp_path/'s')).fit(3)
    (tmp_path/'s'/'epoch_mine.png').write_bytes(b'x')
    make(cbs=ShowSamples(n=1, folder=tmp_path/'s', every=2)).fit(2)
    assert list(sample_files(tmp_path/'s'))==[0,2] and (tmp_path/'s'/'epoch_mine.png').exists()

def test_only_training_is_shown(make, tmp_path):
    learn = make(cbs=ShowSamples(n=1))
    learn.validate(); learn.get_preds(); learn.lr_find(num_it=10, show_plot=False)
    assert not (tmp_path/'run'/'samples').exists()
    learn.fit(1)
    before = {k: f.stat().st_mtime_ns for k,f in sample_files(tmp_path/'run'/'samples').items()}
    learn.validate()
    assert {k: f.stat().st_mtime_ns for k,f in sample_files(tmp_path/'run'/'samples').items()}==before and list(before)==[0,1]

def test_a_picture_that_fails_leaves_the_old_one(make, tmp_path, monkeypatch):
    learn = make(cbs=ShowSamples(n=1))
    learn.fit(1)
    files = {k: f.read_bytes() for k,f in sample_files(tmp_path/'run'/'samples').items()}
    save = Image.Image.save
    def full(self, fp, *args, **kwargs):
        save(self, fp, *args, **kwargs)
        open(fp, 'r+b').truncate(100)
        raise OSError('no space left on device')
    monkeypatch.setattr(Image.Image, 'save', full)
    with pytest.raises(OSError, match='no space'): learn.fit(1)
    monkeypatch.undo()
    assert {k: f.read_bytes() for k,f in sample_files(tmp_path/'run'/'samples').items()}==files

def test_an_exported_learner_carries_no_pictures(make, tmp_path):
    learn = make(cbs=ShowSamples(n=3))
    learn.fit(1)
    learn.export()
    assert learn.show_samples.batch is not None
    assert load_learner(tmp_path/'run'/'export.pkl').show_samples.batch is None

def test_arguments_of_samples(make):
    for kwargs in (dict(every=0), dict(n=0)):
        with pytest.raises(ValueError, match='must be a whole number ≥ 1'): ShowSamples(**kwargs)
    learn = make(cbs=ShowSamples(n=100))
    learn.fit(1)
    assert len(learn.show_samples.batch[0])==3, 'all there are'

def test_a_notebook_shows_one_picture_below_the_bar(path, tmp_path):
    "In a kernel: displayed once, replaced in place, the last one stays; nothing without a bar"
    nbformat,nbclient = pytest.importorskip('nbformat'),pytest.importorskip('nbclient')
    setup = f"""import torch
torch.set_num_threads(1)
from cyclegan_fastai.all import *
dls = UnpairedDataLoaders.from_folder({str(path)!r}, size=32, load=32, aug_tfms=[], bs=5, device='cpu')
learn = cyclegan_learner(dls, n_blocks=1, nf=4, path={str(tmp_path)!r}, cbs=ShowSamples(n=1))"""
    cells = [nbformat.v4.new_code_cell(o) for o in (setup, 'learn.fit(2)', 'with learn.no_bar(), learn.no_logging(): learn.fit(1)')]
    nb = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(nb, timeout=300, kernel_name='python3').execute()
    pictures = lambda cell: [o.data['image/png'] for o in cell.outputs if 'image/png' in o.get('data', {})]
    assert [base64.b64decode(o) for o in pictures(nb.cells[1])]==[(tmp_path/'samples'/'epoch_0002.png').read_bytes()]
    assert [i for i,o in enumerate(nb.cells[1].outputs) if 'image/png' in o.get('data', {})]==[len(nb.cells[1].outputs)-1]
    assert not nb.cells[2].outputs and (tmp_path/'samples'/'epoch_0003.png').exists()

# The film

def durations(fn):
    with Image.open(fn) as im:
        res = []
        for frame in ImageSequence.Iterator(im): frame.load(); res.append(frame.info['duration'])
        return res

@pytest.mark.parametrize('suffix', ['webp','gif'])
def test_a_film_has_all_pictures_and_holds_the_last(make, tmp_path, suffix):
    learn = make(cbs=ShowSamples(n=2, folder=tmp_path/'s'))
    learn.fit(3)
    fn = learn.film(out=f'f.{suffix}', ms=150, hold=900)
    assert fn==tmp_path/'s'/f'f.{suffix}' and durations(fn)==[150]*3+[900]
    with Image.open(fn) as im:
        assert im.size==Image.open(tmp_path/'s'/'epoch_0000.png').size and im.n_frames==4 and im.info['loop']==0
        im.seek(3)
        last = np.array(im.convert('RGB'), dtype=float)
    assert abs(last-np.array(Image.open(tmp_path/'s'/'epoch_0003.png'))).mean()<12
    assert not list((tmp_path/'s').glob('*.part'))

def test_frames_of_a_film_are_in_order_and_may_differ_in_size(tmp_path):
    for i,size in ((9,(40,30)), (10,(60,30)), (10000,(60,50))): Image.new('RGB', size, (i%256,0,0)).save(tmp_path/f'epoch_{i:04d}.png')
    fn = film(tmp_path, tmp_path/'elsewhere.gif', ms=100)
    with Image.open(fn) as im:
        assert (im.size,im.n_frames)==((60,50),3)
        assert [ (im.seek(i), im.convert('RGB').getpixel((1,1))[0])[1] for i in range(3)]==[9,10,10000%256]
    with pytest.raises(ValueError, match='webp or .gif'): film(tmp_path, 'x.mp4')
    with pytest.raises(ValueError, match='train with `ShowSamples` first'): film(tmp_path/'none')

def test_thirty_frames_stay_below_a_megabyte(tmp_path):
    "Eight columns of 64 pixels, of the embedded data, which has much detail"
    scenes = [Scene.random(np.random.default_rng(i)) for i in range(8)]
    draw = lambda season: torch.stack([torch.tensor(np.array(draw_scene(o, season, 64))).permute(2,0,1)/127.5-1 for o in scenes])
    a,b = draw('summer'),draw('winter')
    for i in range(30):
        mix = lambda x,y: x+(y-x)*i/29
        rows = dict(zip(('real','to','back','real b','to a','back b'), (a, mix(a,b), mix(b,a), b, mix(b,a), mix(a,b))))
        sample_grid(rows, f'epoch {i}').save(tmp_path/f'epoch_{i:04d}.png')
    assert film(tmp_path).stat().st_size<1e6

# Loggers

def test_tensorboard_gets_pictures_and_curves(make, tmp_path):
    pytest.importorskip('tensorboard')
    from fastai.callback.tensorboard import TensorBoardCallback
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    learn = make(cbs=[ShowSamples(n=2), TensorBoardCallback(tmp_path/'tb')])      # as a user of fastai writes it
    learn.fit(2)
    learn.fit(1)
    log = EventAccumulator(str(tmp_path/'tb')).Reload()
    images = log.Images('samples')
    assert [o.step for o in images]==[0,1,2,3]
    shown = np.array(Image.open(io.BytesIO(images[-1].encoded_image_string)))
    assert (shown==np.array(Image.open(sample_files(learn.show_samples.folder)[3]))).all()
    assert {'train_loss','train_cycle','valid_critic'} <= set(log.Tags()['scalars'])
    assert [o.value for o in log.Scalars('valid_cycle')][-1]==pytest.approx(learn.recorder.values[-1][learn.recorder.metric_names.index('valid_cycle')-1])

def test_wandb_gets_pictures_curves_and_settings(make, tmp_path, monkeypatch, capsys):
    wandb = pytest.importorskip('wandb')
    from fastai.callback.wandb import WandbCallback
    monkeypatch.setenv('WANDB_SILENT', 'true'); monkeypatch.setenv('WANDB_MODE', 'offline')
    run = wandb.init(project='test', dir=str(tmp_path), mode='offline')
    try:
        learn = make(cbs=[ShowSamples(n=2), WandbCallback()])
        learn.fit(2)
        assert run.summary['valid_cycle']==pytest.approx(learn.recorder.final_record[learn.recorder.metric_names.index('valid_cycle')-1])
        assert run.config['batch size']==2 and run.config['ShowSamples']['n']==2
        learn.fit(1)
        folder = tmp_path/'wandb'
    finally: wandb.finish()
    media = list(folder.glob('offline-run-*/files/media/images/samples_*.png'))
    written = {np.array(Image.open(o)).tobytes() for o in media}
    ours = {np.array(Image.open(o)).tobytes() for o in sample_files(learn.show_samples.folder).values()}
    assert len(ours)==4 and written==ours
    out = capsys.readouterr().out
    assert 'could not' not in out and 'not able' not in out
