"What all tests share: no window, little noise, the same numbers every time; and a browser, where there is one"
import inspect, os, random, shutil, signal, threading
os.environ |= dict(MPLBACKEND='agg', OMP_NUM_THREADS='1') # sums depend on the number of threads; and processes with two threads on two cores crawl

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import numpy as np, pytest, torch

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler) # a job in the background ignores it, and so would the processes that tests start

def pytest_pycollect_makeitem(collector, name, obj):
    "`import *` brings fastcore's `test_eq` and its kin into a test module: they are no tests of ours"
    if inspect.isfunction(obj) and name.startswith('test') and obj.__module__!=collector.obj.__name__: return []

def pytest_collection_modifyitems(items):
    "A process takes a file at a time, but of the notebooks a part; what takes longest begins first"
    first = ['test_notebooks_run','test_docs.py','test_long.py','test_distributed.py','test_faults.py']
    def group(o): return o.name if o.name.startswith('test_notebooks_run') else o.path.name
    for o in items: o.add_marker(pytest.mark.xdist_group(group(o)))
    place = lambda o: next((i for i,k in enumerate(first) if group(o).startswith(k)), len(first))
    items.sort(key=place)

@pytest.fixture(autouse=True)
def seeded():
    "Every test starts from the same seed, whichever ran before it"
    random.seed(42); np.random.seed(42); torch.manual_seed(42)

@pytest.fixture
def lost(record_property):
    "Say what a fault has cost: one line of the summary at the end"
    return lambda what: record_property('lost', what)

def pytest_terminal_summary(terminalreporter):
    "What was lost, fault by fault"
    rows = [(o.nodeid, v) for o in terminalreporter.stats.get('passed', ()) for k,v in o.user_properties if k=='lost']
    if rows: terminalreporter.section('what was lost')
    for test,what in sorted(rows): terminalreporter.write_line(f'{test.split("::")[-1]}: {what}')

class Hangs(BaseException): "Nobody's `except Exception` swallows it"

@pytest.fixture
def bell():
    "`bell(what)` before a case that may hang: after twenty seconds it fails, and says what it was"
    case = []
    def ring(*_): raise Hangs(*case)
    before = signal.signal(signal.SIGALRM, ring)
    def start(what): case[:] = [what]; signal.alarm(20)
    yield start
    signal.alarm(0); signal.signal(signal.SIGALRM, before)

@pytest.fixture(scope='session')
def root(): return Path(__file__).resolve().parents[1]

@pytest.fixture(scope='session')
def shared_data():
    "The folder of real data sets, where there is one"
    shared = os.environ.get('CYCLEGAN_FASTAI_SHARED')
    if not shared: pytest.skip('no real data: set CYCLEGAN_FASTAI_SHARED to the folder that holds data/')
    return Path(shared)/'data'

@pytest.fixture(scope='session')
def model_file(tmp_path_factory):
    "A translator's file, small and untrained: summer and winter at 32 pixels, two blocks of width 8"
    from cyclegan_fastai.use.engines import TorchEngine
    from cyclegan_fastai.use.translator import Translator
    from cyclegan_fastai.nets.models import init_gan, resnet_generator
    torch.manual_seed(7)
    engines = {o: TorchEngine(init_gan(resnet_generator(2, 8), std=.1), 'cpu') for o in ('summer','winter')}
    about = dict(recipe=dict(data='seasons', epochs=1), scores=[])
    return Translator(engines, ('summer','winter'), 32, about).save(tmp_path_factory.mktemp('model')/'model.safetensors')

@pytest.fixture(scope='session')
def translator(model_file):
    from cyclegan_fastai.use.translator import Translator
    return Translator.load(model_file, device='cpu')

@pytest.fixture(scope='session')
def onnx_folder(translator, tmp_path_factory):
    "The same model as two ONNX files"
    pytest.importorskip('onnxscript', reason='no ONNX exporter: install the extra [onnx]')
    from cyclegan_fastai.use.export import export_onnx
    return export_onnx(translator, tmp_path_factory.mktemp('exported')/'onnx')

@pytest.fixture
def serve():
    "Serve a folder on loopback; gives its address"
    servers = []
    def start(folder):
        handler = type('Quiet', (SimpleHTTPRequestHandler,), dict(log_message=lambda *args: None))
        servers.append(ThreadingHTTPServer(('127.0.0.1', 0), partial(handler, directory=str(folder))))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f'http://127.0.0.1:{servers[-1].server_port}'
    yield start
    for o in servers: o.shutdown(); o.server_close()

@pytest.fixture
def browser(tmp_path):
    "Opens a headless Chromium of a given width and height, in pixels; downloads go to `tmp_path/'downloads'`"
    pytest.importorskip('selenium', reason='no selenium')
    chromium, chromedriver = shutil.which('chromium'), shutil.which('chromedriver')
    if not (chromium and chromedriver): pytest.skip('no browser: install chromium and chromium-driver')
    from selenium import webdriver
    drivers = []
    def start(width=1280, height=900, *args):
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        quiet = 'headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync'
        for o in (*quiet.split(), f'user-data-dir={tmp_path}/profile{len(drivers)}', f'window-size={width},{height}', *args): options.add_argument(f'--{o}')
        options.add_experimental_option('prefs', {'download.default_directory': str(tmp_path/'downloads')})
        options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
        drivers.append(webdriver.Chrome(options, webdriver.ChromeService(chromedriver)))
        # a window has a least width, a phone's screen hasn't
        drivers[-1].execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=height, deviceScaleFactor=1, mobile=width<600))
        return drivers[-1]
    yield start
    for o in drivers: o.quit()
