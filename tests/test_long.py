"Five hundred epochs in one real process: memory, open files and the work of an epoch stay what they were"
import gc, json, os, re, statistics, subprocess, sys, time
from pathlib import Path

n_epochs, every = 480, 24

def train(out):
    "A whole run on the smallest data, one batch an epoch; a line for each twentieth of them"
    from fastai.vision.all import Callback
    from cyclegan_fastai.run.experiment import Recipe, run_experiment
    from cyclegan_fastai.data.seasons import seasons
    path = seasons(n_train=4, n_test=4, size=24, path=out/'data')

    class Measure(Callback):
        order = 100 # after all that saves
        def before_fit(self): self.began = time.process_time()
        def after_epoch(self):
            if (self.epoch+1)%every: return
            ms = 1e3*(time.process_time()-self.began)/every # of the processor: what else runs here doesn't count
            gc.collect()
            mb = int(Path('/proc/self/statm').read_text().split()[1])*os.sysconf('SC_PAGE_SIZE')/1e6
            row = dict(epoch=self.epoch+1, mb=mb, files=len(os.listdir('/proc/self/fd')), ms=ms, checkpoint_mb=(out/'run'/'last.pth').stat().st_size/1e6)
            print(json.dumps(row), file=sys.stderr, flush=True)
            self.began = time.process_time()

    recipe = Recipe(str(path), size=24, epochs=n_epochs//2, decay_epochs=n_epochs//2, bs=4, blocks=0, width=1, ema=.9, augment='none')
    run_experiment(recipe, out/'run', device='cpu', cbs=Measure())

def test_five_hundred_epochs(tmp_path):
    import pytest
    if not Path('/proc/self/statm').exists(): pytest.skip('no /proc: memory and open files are read from there')
    env = {k: v for k,v in os.environ.items() if k!='PYTHONDONTWRITEBYTECODE'} | dict(OMP_NUM_THREADS='1', MPLBACKEND='agg')
    done = subprocess.run([sys.executable, '-W', 'ignore', __file__, tmp_path], env=env, capture_output=True, text=True)
    rows = [json.loads(o) for o in done.stderr.splitlines() if re.match(r'{"epoch"', o)]
    assert not done.returncode and len(rows)==n_epochs//every, done.stderr[-3000:]
    for o in rows: print('epoch {epoch:>4}: {mb:.1f} MB, {files} open files, {ms:.1f} ms an epoch, checkpoint {checkpoint_mb:.2f} MB'.format(**o))
    middle = lambda k, start, end: statistics.median(o[k] for o in rows if start<o['epoch']/n_epochs<=end)
    memory = middle('mb', .8, 1)/middle('mb', .1, .3)
    work = middle('ms', .75, 1)/middle('ms', .25, .5)
    print(f'memory: {memory-1:+.1%} from 10–30 % of the epochs to the last fifth; work of an epoch: {work:.2f} times, from the second quarter to the last')
    assert abs(memory-1)<=.012
    assert max(o['files'] for o in rows[-4:])<=max(o['files'] for o in rows[1:6])
    assert work<1.2, 'something that an epoch does grows with the epochs before it'
    assert len(list((tmp_path/'run'/'samples').glob('*.png')))==41 and (tmp_path/'run'/'film.webp').stat().st_size>0

if __name__=='__main__': train(Path(sys.argv[1]))
