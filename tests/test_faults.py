"Faults while training: kills, signals, full and read-only disks, damaged files; each test says what was lost"
import hashlib, json, os, random, re, shutil, signal, subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace

import pytest, torch
from fastai.callback.core import Callback
from cyclegan_fastai.core.disk import intact, whole_file
from cyclegan_fastai.run.experiment import run_experiment
from cyclegan_fastai.run.checkpoints import Stopped
from cyclegan_fastai.game.gamelearner import DamagedFile
from cyclegan_fastai.run.recipe import Recipe, load_recipe, locked
from cyclegan_fastai.data.seasons import seasons
from cyclegan_fastai.data.unpaired import UnpairedDataLoaders
from cyclegan_fastai.game.learner import cyclegan_learner

NOTHING,SINCE = 'nothing','at most the work since the last checkpoint'
root = Path(__file__).resolve().parents[1]

@pytest.fixture(scope='module')
def recipe(tmp_path_factory):
    "Three epochs of six batches: with pools, averages and every kind of augmentation"
    path = seasons(12, 4, 32, 1, tmp_path_factory.mktemp('data')/'seasons')
    return Recipe(data=str(path), size=32, epochs=2, decay_epochs=1, bs=2, blocks=1, width=4, lr=1e-3, ema=.9)

def test_images_whose_names_are_no_text(recipe, tmp_path):
    "Their list is written and read like any other"
    from cyclegan_fastai.data.files import find_unpaired
    from cyclegan_fastai.run.checkpoints import keep_images, same_images
    data = shutil.copytree(recipe.data, tmp_path/'data')
    first = sorted((data/'trainA').iterdir())[0]
    odd = first.rename(first.with_name(os.fsdecode(b'\xff.png')))
    keep_images(tmp_path, find_unpaired(data))
    same_images(tmp_path, find_unpaired(data))
    odd.unlink()
    with pytest.raises(ValueError, match='1 missing'): same_images(tmp_path, find_unpaired(data))

def test_accents_in_one_piece_or_in_two_are_the_same_images(tmp_path):
    "A folder copied from a Mac: the same images in the same order, for its runs too, whenever their list was written"
    import unicodedata
    from PIL import Image
    from cyclegan_fastai.data.files import find_unpaired
    from cyclegan_fastai.run.checkpoints import keep_images, same_images
    names = ['e.png', 'é.png', 'f.png', 'ü/z.png', 'z.png']
    for form in ('NFC','NFD'):
        for i,name in enumerate(names):
            for domain in ('été','hiver'):
                file = tmp_path/form/unicodedata.normalize(form, f'{domain}/{name}')
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new('RGB', (4,4), (i,0,0)).save(file)
    linux,mac = (find_unpaired(tmp_path/o, .4) for o in ('NFC','NFD'))
    assert linux.domains==mac.domains==('hiver','été')
    assert [o[:2] for o in linux]==[o[:2] for o in mac]
    assert [o[2].read_bytes() for o in linux]==[o[2].read_bytes() for o in mac]
    for a,b in ((linux,mac), (mac,linux)):
        keep_images(tmp_path, a)
        same_images(tmp_path, b)
    rows = [[*k, f.relative_to(tmp_path/'NFD').as_posix(), f.stat().st_size] for *k,f in mac]
    (tmp_path/'images.json').write_text(json.dumps(rows))                          # as a Mac wrote it before
    same_images(tmp_path, linux)

def digest(x, h=None):
    "A hash of nested state, whatever the identities and the order of writing"
    top,h = h is None,h or hashlib.sha256()
    if isinstance(x, torch.Tensor): h.update(f'{x.dtype}{tuple(x.shape)}'.encode()+x.contiguous().numpy().tobytes())
    elif isinstance(x, dict):
        for k in sorted(x, key=str): h.update(str(k).encode()); digest(x[k], h)
    elif isinstance(x, (list,tuple)):
        h.update(f'[{len(x)}'.encode())
        for o in x: digest(o, h)
    else: h.update(repr(x).encode())
    return h.hexdigest()

def end(out):
    "What a run came to: everything that is in its checkpoint, its best, and the record"
    parts = {k: digest(v) for k,v in torch.load(out/'last.pth', weights_only=False).items()}
    model = Path(out/'model.safetensors').read_bytes()
    metrics = json.loads((out/'metrics.json').read_text())
    return {**parts, 'weights': hashlib.sha256(model[8+int.from_bytes(model[:8], 'little'):]).hexdigest(),
            **{k: digest(metrics[k]) for k in ('history','scores','best')}, 'film': hashlib.sha256((out/'film.webp').read_bytes()).hexdigest()}

@pytest.fixture(scope='module')
def straight(recipe, tmp_path_factory):
    "The same run, which nobody disturbs"
    out = tmp_path_factory.mktemp('straight')/'run'
    run_experiment(recipe, out, device='cpu', cbs=Callback())
    return end(out)

def on(out, **kwargs): return run_experiment(load_recipe(out), out, resume=True, device='cpu', cbs=Callback(), **kwargs)

# A real kill

@pytest.fixture
def life(recipe):
    "Train in a process of its own, until it dies: gives its wait status. `trap`, called in it, prepares the end"
    def start(out, save_every, trap=lambda: None, seconds=None):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                os.setsid()
                torch.set_num_threads(1)
                random.seed(time.time_ns())                       # a new process knows nothing of the one before
                trap()
                done = (out/'recipe.json').exists()
                run_experiment(recipe, out, resume=done, device='cpu', save_every=save_every, cbs=Callback())
                status = 0
            finally: os._exit(status)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(pid, signal.SIGKILL)                          # no effect if it has ended by itself
        return os.waitpid(pid, 0)[1]
    return start

def kill_in(name, call, when):
    "SIGKILL at the `call`-th call of a function of `os` in a checkpoint's write: 'before' it, 'after' it, or with half of what was written"
    def trap():
        real,n = getattr(os, name),0
        def f(*args):
            nonlocal n
            n += 1
            if n==call and when=='half' and not os.path.isdir(f'/proc/self/fd/{args[0]}'): os.ftruncate(args[0], os.fstat(args[0]).st_size//2)
            if n==call and when!='after': os.kill(os.getpid(), signal.SIGKILL)
            res = real(*args)
            if n==call: os.kill(os.getpid(), signal.SIGKILL)
            return res
        setattr(os, name, f)
    return trap

def position(out):
    "Batches that the last checkpoint holds, and none if there isn't one"
    for o in ('last','next'):
        if (out/f'{o}.pth').exists():
            assert intact(out/f'{o}.pth'), 'half a file has a final name'
            state = torch.load(out/f'{o}.pth', weights_only=False)
            return 6*state['epochs_done'] + (state['midway'] or dict(batches=0))['batches']
    return 0

linux = pytest.mark.skipif(not hasattr(os, 'fork') or not Path('/proc/self/fd').exists(), reason='wants Linux')

@linux
@pytest.mark.parametrize('save_every', [None, 1])
def test_killed_again_and_again(life, straight, tmp_path, save_every, lost):
    "Ten kills, five within a checkpoint's write, five at random times; what is left goes on, and ends as if nothing had happened"
    out,rng,at,ended = tmp_path/'run',random.Random(1+bool(save_every)),0,0
    plan = [*['time']*5, ('fsync',1,'half'), ('fsync',1,'before'), ('fsync',2,'after'), ('replace',1,'before'), ('replace',2,'after')]
    rng.shuffle(plan)
    kills,todo = 0,list(plan)
    while todo:
        o = todo[0]
        if o=='time': status = life(out, save_every, seconds=rng.uniform(.3, 2.5))
        else: status = life(out, save_every, kill_in(o[0], o[1]+rng.randrange(12), o[2]))
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status)==signal.SIGKILL
            before,at = at,position(out)
            assert at>=before, 'work is lost that had been saved'
            todo.pop(0); kills += 1
        else:                                                     # it was quicker, and has ended
            assert os.WEXITSTATUS(status)==0 and end(out)==straight
            shutil.rmtree(out); at = 0
            ended += 1
            assert ended<20
    assert life(out, save_every)==0
    assert kills==10 and end(out)==straight and not list(out.glob('*.part'))
    lost(f'{SINCE} ({kills} kills)')

# Signals

@linux
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_at_a_batch(recipe, straight, tmp_path, number, lost):
    "The command line, as a scheduler or Ctrl-C ends it"
    out,said = tmp_path/'run',tmp_path/'said'
    args = f'train --recipe paper --data {recipe.data} --size 32 --epochs 2 --decay-epochs 1 --bs 2 --blocks 1 --width 4 --lr 1e-3 --ema .9 --device cpu --out {out}'
    pid = os.fork()
    if not pid:
        os.setsid()
        sys.stdout = sys.stderr = open(said, 'w', buffering=1)
        torch.set_num_threads(1)
        from cyclegan_fastai.cli import main as cli
        sys.argv,status = ['cyclegan-fastai', *args.split()],1
        try: cli.main()
        except SystemExit as e: status = e.code
        finally: os._exit(status or 0)
    for _ in range(6000):
        if (out/'last.pth').exists(): break
        time.sleep(.02)
    os.kill(pid, number)
    status,text = os.WEXITSTATUS(os.waitpid(pid, 0)[1]),said.read_text()
    assert status==128+number and 'Traceback' not in text, text
    assert re.search(rf'{number.name} stopped training after (batch \d of )?epoch \d of 3; all is saved. To go on exactly there: .*--resume --out', text), text
    on(out)
    assert end(out)==straight
    lost(NOTHING)

def test_signal_loses_no_batch(recipe, straight, tmp_path, lost):
    "It goes on with the batch after the one in which the signal came"
    seen = []
    class Count(Callback):
        def before_batch(self):
            if not self.training: return
            seen.append((self.epoch, self.iter))
            if len(seen)==9: signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Stopped, match='SIGTERM stopped training after batch 3 of epoch 2 of 3'):
        run_experiment(recipe, tmp_path/'run', device='cpu', cbs=Count())
    run_experiment(recipe, tmp_path/'run', resume=True, device='cpu', cbs=Count())
    assert seen==[(i,j) for i in range(3) for j in range(6)] and end(tmp_path/'run')==straight
    assert signal.getsignal(signal.SIGTERM)==signal.SIG_DFL
    lost(NOTHING)

def test_an_error_of_ones_own(recipe, straight, tmp_path, lost):
    class Broken(Callback):
        def after_batch(self):
            if self.training and (self.epoch,self.iter)==(1,4): raise ZeroDivisionError('a mistake')
    with pytest.raises(ZeroDivisionError): run_experiment(recipe, tmp_path/'run', device='cpu', save_every=2, cbs=Broken())
    assert position(tmp_path/'run')==10
    on(tmp_path/'run')
    assert end(tmp_path/'run')==straight
    lost(SINCE)

# Disks

@pytest.fixture
def disk(tmp_path):
    "A small disk of its own"
    path,mounted = tmp_path/'disk',False
    path.mkdir()
    if not shutil.which('mount') or subprocess.run(['mount','-t','tmpfs','-o','size=12m','tmpfs',path], capture_output=True).returncode:
        pytest.skip('no right to mount a small disk')
    yield path
    subprocess.run(['umount','-l',path])

@pytest.fixture
def when_it_waits(monkeypatch):
    "Call a function once the run waits for its disk"
    def do(f): monkeypatch.setattr('cyclegan_fastai.core.disk.time', SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: f()))
    return do

class Fill(Callback):
    "Fill the disk within the second epoch"
    def __init__(self, disk): self.disk = disk
    def after_batch(self):
        if not self.training or (self.epoch,self.iter)!=(1,2): return
        with pytest.raises(OSError), open(self.disk/'filler', 'wb', 0) as f:
            while True: f.write(bytes(2**14))

def test_full_disk_waits_for_room(recipe, straight, disk, when_it_waits, capfd, lost):
    when_it_waits((disk/'filler').unlink)
    run_experiment(recipe, disk/'run', device='cpu', cbs=Fill(disk))
    assert re.search("`.*` can't be written \\(No space left on device\\): make room there. .* Waiting for it", capfd.readouterr().out)
    assert end(disk/'run')==straight
    lost(NOTHING)

def test_full_disk_and_no_time(recipe, straight, disk, when_it_waits, lost):
    when_it_waits(lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(OSError, match='make room there. What was there before is untouched'):
        run_experiment(recipe, disk/'run', device='cpu', save_every=1, cbs=Fill(disk))
    assert not list((disk/'run').glob('*.part'))
    (disk/'filler').unlink()
    assert position(disk/'run')>=8
    on(disk/'run')
    assert end(disk/'run')==straight
    lost(SINCE)

def test_too_small_a_disk_is_told_of_before_training(recipe, disk, lost):
    from dataclasses import replace
    with pytest.raises(OSError, match=r'has \d+ MB left, and \d+ MB are needed: make room there'): run_experiment(replace(recipe, width=16), disk/'run', device='cpu')
    assert not list(disk.iterdir())
    lost(NOTHING)

def test_read_only_disk(recipe, straight, disk, when_it_waits, capfd, lost):
    "Before training it is refused; in the midst of it, as with a network drive, there is time to mend it"
    def mount(how): subprocess.run(['mount','-o',f'remount,{how}',disk], check=True)
    class Freeze(Callback):
        def after_batch(self):
            if self.training and (self.epoch,self.iter)==(1,2): mount('ro')
    when_it_waits(lambda: mount('rw'))
    run_experiment(recipe, disk/'run', device='cpu', cbs=Freeze())
    assert re.search("can't be written .Read-only file system.: choose a folder that may be written to.*Waiting for it", capfd.readouterr().out)
    assert end(disk/'run')==straight
    mount('ro')
    for resume in (True, False):
        with pytest.raises(OSError, match="can't be written .Read-only"): run_experiment(recipe, disk/('run' if resume else 'new'), resume, 'cpu')
    mount('rw')
    assert [o.name for o in disk.iterdir()]==['run']
    lost(NOTHING)

def test_data_on_a_read_only_disk(recipe, disk, tmp_path, monkeypatch, lost):
    "Where the data's folder can't be written, a learner saves in the working folder; a folder that was asked for is refused by name"
    shutil.copytree(recipe.data, disk/'data')
    monkeypatch.chdir(tmp_path)
    dls = UnpairedDataLoaders.from_folder(disk/'data', 32, bs=2, device='cpu')
    assert cyclegan_learner(dls, n_blocks=1, nf=4).path==disk/'data'
    subprocess.run(['mount','-o','remount,ro',disk], check=True)
    with pytest.warns(UserWarning, match=r'disk/data`, where the data are, can.t be written .Read-only file system.: the learner saves in the working folder'):
        learn = cyclegan_learner(dls, n_blocks=1, nf=4)
    with learn.no_bar(), learn.no_logging():
        learn.lr_find(num_it=12, show_plot=False)
        learn.load(learn.save('x').stem)
        learn.export()
    assert learn.path==tmp_path and (tmp_path/'models/x.pth').exists() and (tmp_path/'export.pkl').exists()
    asked = cyclegan_learner(dls, n_blocks=1, nf=4, path=disk/'data')
    for write in (lambda: asked.save('x'), asked.export, lambda: asked.lr_find(num_it=12, show_plot=False)):
        with asked.no_bar(), pytest.raises(OSError, match='Read-only file system.*disk/data|disk/data.*Read-only file system'): write()
    lost(NOTHING)

# Damaged and foreign files

def harms():
    def flip(at):
        def f(fn):
            data = bytearray(fn.read_bytes())
            data[int(at*len(data))] ^= 16
            fn.write_bytes(data)
        return f
    return dict(a_bit_at_a_third=flip(1/3), a_bit_in_the_middle=flip(.5), cut_short=lambda fn: os.truncate(fn, 20_000),
                empty=lambda fn: os.truncate(fn, 0), garbage=lambda fn: fn.write_bytes(b'PK, or so'*99), gone=lambda fn: fn.unlink())

@pytest.fixture(scope='module')
def stopped(recipe, tmp_path_factory):
    "A run that was stopped within its second epoch; it has two checkpoints"
    out = tmp_path_factory.mktemp('stopped')/'run'
    class Stop(Callback):
        def before_batch(self):
            if self.training and self.epoch==1 and self.iter==3: signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Stopped): run_experiment(recipe, out, device='cpu', cbs=Stop())
    return out

@pytest.mark.parametrize('harm', harms())
def test_damaged_checkpoint(stopped, straight, tmp_path, harm, capfd, lost):
    out = shutil.copytree(stopped, tmp_path/'run')
    harms()[harm](out/'last.pth')
    on(out)
    said = capfd.readouterr().out
    if harm!='gone': assert re.search("last.pth` is damaged.*Going on from `before_last.pth`, one checkpoint earlier", said), said
    assert end(out)==straight
    lost(SINCE+' that is whole')

def test_no_checkpoint_is_whole(stopped, tmp_path):
    out = shutil.copytree(stopped, tmp_path/'run')
    for o in ('last','before_last'): harms()['cut_short'](out/f'{o}.pth')
    with pytest.raises(DamagedFile, match="There is no other in .*: start a new run with another `out`"): on(out)

def test_checkpoint_of_other_networks(stopped, tmp_path):
    out = shutil.copytree(stopped, tmp_path/'run')
    whole = (out/'last.pth').read_bytes()
    settings = json.loads((out/'recipe.json').read_text())
    (out/'recipe.json').write_text(json.dumps({**settings, 'width': 8}))
    with pytest.raises(ValueError, match='holds networks of another shape: build the learner'): on(out)
    assert (out/'last.pth').read_bytes()==whole

def test_checkpoint_of_another_version(stopped, tmp_path):
    out = shutil.copytree(stopped, tmp_path/'run')
    state = torch.load(out/'last.pth', weights_only=False)
    state['version'],state['callbacks']['alternating_trainer'] = '99.0',dict(fakes={})
    torch.save(state, out/'last.pth')
    with pytest.raises(ValueError, match='isn.t known here .*cyclegan_fastai 99.0 wrote it, this is .*: use the version that wrote it'): on(out)

def test_other_batches(stopped, tmp_path):
    "An epoch that has fewer batches than are done"
    out = shutil.copytree(stopped, tmp_path/'run')
    (out/'recipe.json').write_text(json.dumps({**json.loads((out/'recipe.json').read_text()), 'bs': 6}))
    with pytest.raises(ValueError, match='after batch 4 of an epoch, which here has 2: load it with the data and the batch size'): on(out)

def test_two_processes_in_one_folder(stopped, tmp_path):
    out = shutil.copytree(stopped, tmp_path/'run')
    with locked(out), pytest.raises(BlockingIOError, match='is being trained by another process: wait for it'): on(out)

@linux
def test_the_lock_dies_with_its_process(stopped):
    pid = os.fork()
    if not pid:
        with locked(stopped): os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    with locked(stopped): pass

# Pictures and other files

def test_every_file_is_whole_or_not_there(tmp_path):
    fn = tmp_path/'x.txt'
    fn.write_text('before')
    for error in (ValueError, KeyboardInterrupt, RuntimeError):
        with pytest.raises(error), whole_file(fn) as part:
            part.write_text('half')
            raise error
    assert fn.read_text()=='before' and [o.name for o in tmp_path.iterdir()]==['x.txt']

def test_one_door_for_writing():
    "Nobody makes `.part` files by hand; downloads do, which go on where they were stopped"
    found = {o.name for o in (root/'cyclegan_fastai').rglob('*.py') if '.part\'' in o.read_text(encoding='utf-8') and o.name!='disk.py'}
    assert found=={'download.py'}
