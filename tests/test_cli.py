"The command line: what it makes, how it goes on, and what it says when something is wrong"
import json, os, re, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest
from PIL import Image
from cyclegan_fastai import cli

root = Path(__file__).resolve().parents[1]
sample = root/'data'/'seasons_sample'
small = '--size 32 --epochs 1 --decay-epochs 1 --bs 4 --blocks 1 --width 4 --device cpu'.split()

def call(monkeypatch, capfd, *args):
    "Run `main` as the console script does: exit status, standard output, standard error"
    monkeypatch.setattr(sys, 'argv', ['cyclegan-fastai', *map(str, args)])
    with pytest.raises(SystemExit) as e: cli.main(), sys.exit(0)
    out, err = capfd.readouterr()
    return e.value.code or 0, out, err

@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *args: call(monkeypatch, capfd, *args)

def process(*args, cwd):
    env = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
    return subprocess.Popen([sys.executable, '-m', 'cyclegan_fastai.cli', *map(str, args)], cwd=cwd, env=env, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))

def test_train_translate_resume(run, tmp_path):
    code, out, err = run('train', '--data', sample, *small, '--out', 'my run')
    assert code==0, err
    made = {o.name for o in (tmp_path/'my run').iterdir()}
    assert made=={'sample_grid.png', 'losses.png', 'film.webp', 'samples', 'metrics.json', 'model.pkl', 'recipe.json', 'last.pth'}
    res = json.loads((tmp_path/'my run'/'metrics.json').read_text())
    assert len(res['history'])==2 and len(res['scores'])==6 and res['pairs_per_epoch']==24
    for o in res['scores']:
        assert f'{o["psnr"]:.2f}' in out
    assert 'PSNR' in out and 'cyclegan-fastai translate' in out
    assert Image.open(tmp_path/'my run'/'sample_grid.png').size[0] > 400
    assert Image.open(tmp_path/'my run'/'film.webp').n_frames==3         # before training, and after each epoch

    photo = tmp_path/'a photo.jpg'
    Image.open(next((sample/'testA').iterdir())).resize((90, 60)).save(photo)
    (tmp_path/'broken.jpg').write_bytes(b'not an image')
    code, out, err = run('translate', 'broken.jpg', photo, '--run', 'my run', '--out', 'res', '--json')
    rows = json.loads(out)
    assert code==1 and 'broken.jpg' in rows[0]['problem'] and not rows[1]['problem']
    assert Image.open(rows[1]['result']).size==(48, 32)

    code, out, err = run('train', '--out', 'my run', '--resume', '--json')     # it was finished: nothing is trained again
    assert code==0 and json.loads(out)['history']==res['history']

def test_json_alone_on_standard_output(run):
    code, out, _ = run('train', '--data', sample, *small, '--json')
    assert code==0 and json.loads(out)['recipe']['width']==4
    assert Path('runs/seasons_sample/model.pkl').exists()
    code, out, _ = run('train', '--data', sample, *small, '--json')               # a second run goes beside the first
    assert code==0 and Path('runs/seasons_sample-2/model.pkl').exists()

def test_same_seed_same_run(run):
    def scores(seed): return json.loads(run('train', '--data', sample, *small, '--seed', seed, '--json')[1])['scores']
    assert scores(3)==scores(3)!=scores(4)

def test_ctrl_c_and_resume(tmp_path):
    "A real interrupt in a real process; going on ends as if nothing had happened"
    args = ['train', '--data', sample, *small[:2], '--epochs', 3, '--decay-epochs', 3, *small[6:], '--bs', 4]
    whole = process(*args, '--out', 'whole', '--json', cwd=tmp_path)
    cut = process(*args, '--out', 'cut', cwd=tmp_path)
    for _ in range(1200):
        if (tmp_path/'cut'/'last.pth').exists() or cut.poll() is not None: break
        time.sleep(.05)
    cut.send_signal(signal.SIGINT)
    out, err = cut.communicate(timeout=120)
    assert cut.returncode==130, (out, err)
    assert '--resume' in out and 'Traceback' not in err
    on = process('train', '--out', 'cut', '--resume', '--json', cwd=tmp_path)
    resumed, straight = json.loads(on.communicate(timeout=120)[0]), json.loads(whole.communicate(timeout=120)[0])
    assert len(resumed['history'])==6
    assert resumed['history']==straight['history'] and resumed['scores']==straight['scores']

def test_data_verbs(run, tmp_path):
    code, out, _ = run('data', 'list', '--json')
    assert code==0 and {o['name'] for o in json.loads(out)} >= {'summer2winter_yosemite', 'horse2zebra', 'maps'}
    code, out, _ = run('data', 'seasons', '--n-train', 2, '--n-test', 1, '--size', 32, '--out', 'drawn', '--json')
    assert code==0 and json.loads(out)[0]['images']==8 and len(list(Path('drawn/trainA').iterdir()))==2
    shutil.copytree(sample, 'mine')
    assert run('data', 'verify', 'mine')[0]==0
    (tmp_path/'mine'/'trainA'/'cut.png').write_bytes(b'\x89PNG')
    code, out, _ = run('data', 'verify', 'mine', '--json')
    row, = json.loads(out)
    assert code==1 and row['problem']=='damaged' and 'cut.png' in row['file']
    code, out, err = run('train', '--data', 'mine', *small)
    assert code==2 and 'cut.png' in err and not Path('runs').exists()
    assert run('train', '--data', 'mine', *small, '--skip-damaged')[0]==0

wrong = {
    'size not a multiple of 4': (['--size', 65], '`size`'),
    'size too small': (['--size', 16], '`size`'),
    'no epochs': (['--epochs', 0, '--decay-epochs', 0], 'nothing to train'),
    'negative epochs': (['--epochs', -1], '`epochs`'),
    'batch of none': (['--bs', 0], '`bs`'),
    'batch too large': (['--bs', 1000], '`bs`'),
    'no width': (['--width', 0], '`width`'),
    'negative blocks': (['--blocks', -1], '`blocks`'),
    'rate of zero': (['--lr', 0], '`lr`'),
    'averages': (['--ema', 1], '`ema`'),
    'augmentation': (['--augment', 'lots'], '`augment`'),
    'no such device': (['--device', 'abacus'], '`device`'),
    'data by a wrong name': (['--data', 'horse2zebr'], 'horse2zebra'),
    'data that is not there': (['--data', './nowhere'], 'nowhere'),
    'data without a layout': (['--data', '.'], 'trainA'),
    'resume of nothing': (['--resume', '--out', 'void'], 'void'),
    'not a number': (['--size', 'big'], 'size'),
    'no such option': (['--sice', 64], 'sice'),
}

@pytest.mark.parametrize('case', wrong)
def test_one_clear_error(run, tmp_path, case):
    args, says = wrong[case]
    data = [] if '--data' in args or '--resume' in args else ['--data', sample]
    code, out, err = run('train', *data, '--device', 'cpu', *args)
    assert code==2
    assert says in re.sub(r'\s+', ' ', err) and 'Traceback' not in err
    assert not list(tmp_path.iterdir()), 'nothing may be left behind'

def test_a_run_is_not_overwritten(run):
    assert run('train', '--data', sample, *small, '--out', 'r')[0]==0
    before = Path('r/model.pkl').read_bytes()
    code, _, err = run('train', '--data', sample, *small, '--out', 'r')
    assert code==2 and '--resume' in err.replace('`resume`', '--resume') and Path('r/model.pkl').read_bytes()==before
    code, _, err = run('train', '--resume', '--out', 'r', '--epochs', 9)
    assert code==2 and '`epochs` was 1' in err
    code, _, err = run('translate', sample/'testA', '--run', 'nothing')
    assert code==2 and 'train first' in err
    code, _, err = run('translate', 'x.png', '--run', 'r', '--to', 'autumn')
    assert code==2 and 'A or B' in err

def test_help_is_worth_reading(run):
    for args in ([], ['train'], ['translate'], ['data'], ['data', 'verify']):
        code, out, _ = run(*args, '--help')
        assert code==0 and len(out)>300
    assert '--install-completion' in run('--help')[1]

def test_evaluate_a_run(run, tmp_path):
    assert run('train', '--data', sample, *small, '--out', 'r')[0]==0
    code, out, err = run('evaluate', 'r', '--json')
    assert code==0, err
    res = json.loads(out)
    assert [o['images'] for o in res['table']][1]=='A, untranslated' and len(res['table'])==6 and len(res['truth'])==6
    assert json.loads((tmp_path/'r'/'evaluation.json').read_text())==res
    assert Image.open(tmp_path/'r'/'evaluation.png').size[0] > 800
    code, out, err = run('evaluate', 'r', '-n', 5, '--data', sample)
    assert code==0 and '% of the way' in out and 'colour error' in out and 'cycle PSNR' in out
    code, out, err = run('evaluate', 'nothing')
    assert code==2 and '`nothing` holds no run' in err
    code, out, err = run('evaluate', 'r', '--features', 'vgg')
    assert code==2 and "`features` must be 'lite0', 'inception'" in err

def test_distances_of_a_data_set(run):
    code, out, err = run('data', 'distances', sample, '--size', 32, '--json')
    assert code==0, err
    rows = json.loads(out)
    assert len(rows)==8 and {'kid','kid_sd','frechet','frechet_all','n_a','n_b'} < rows[0].keys()
    assert run('data', 'distances', sample, '--size', 32)[1].count('±')==8

def test_alarms_reach_the_terminal(run):
    code, out, err = run('train', '--data', sample, *small[:2], '--epochs', 4, '--decay-epochs', 0, *small[6:], '--lr', 1e6, '--out', 'r')
    assert code==0, err
    assert out.count('Alarm in epoch')>=1 and 'Alarm at the end: collapse' in out
    assert any('collapse_a2b' in o.get('alarms', {}) for o in json.loads(Path('r/metrics.json').read_text())['history'])

def test_not_a_number_ends_a_run(run):
    code, out, err = run('train', '--data', sample, *small, '--lr', 1e30, '--out', 'r')
    assert code==2 and 'Training stops before the step: not finite in' in err and 'Traceback' not in err
    assert not Path('r/model.pkl').exists() and Path('r/last_good.pth').exists()
