"Getting data sets: a real web server on this machine, and everything that it and an archive can do wrong"
import errno, hashlib, io, os, random, shutil, socket, stat, tarfile, threading, zipfile
from collections import namedtuple
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import cyclegan_fastai.data.download as external
from cyclegan_fastai.data.download import DATASETS, DataSet, DownloadError, untar_unpaired

rng = random.Random(0)
pictures = {f'toy/train{d}/{i}.jpg': rng.randbytes(40_000) for d in 'AB' for i in range(3)}

def zipped(files, **kwargs):
    b = io.BytesIO()
    with zipfile.ZipFile(b, 'w', **kwargs) as z:
        for name,data in files.items(): z.writestr(name, data)
    return b.getvalue()

def tarred(files, mode='w', extra=()):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode=mode) as t:
        for name,data in files.items():
            info = tarfile.TarInfo(name); info.size = len(data)
            t.addfile(info, io.BytesIO(data))
        for o in extra: t.addfile(o)
    return b.getvalue()

toy = zipped(pictures)
digest = lambda data: hashlib.sha256(data).hexdigest()
page = b'<!DOCTYPE html>\n<html><body>Please sign in</body></html>'
Asked = namedtuple('Asked', 'path range if_range')

class Handler(BaseHTTPRequestHandler):
    "Serves `site.files`; `site.faults` {path: [fault of the first request, of the second, …]}, the last one stays"
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args): pass
    def do_GET(self):
        site, rng = self.server.site, self.headers.get('Range')
        site.log.append(Asked(self.path, rng, self.headers.get('If-Range')))
        faults = site.faults.get(self.path, [''])
        fault = faults.pop(0) if len(faults)>1 else faults[0]
        if fault=='silent': return site.over.wait(5)
        if fault.isdigit(): return self.send_error(int(fault))
        if self.path not in site.files: return self.send_error(404)
        body, etag = site.files[self.path], f'"{digest(site.files[self.path])[:8]}"'
        if 'weak' in fault: etag = 'W/'+etag
        use = rng and 'norange' not in fault and self.headers.get('If-Range') in (None, etag, 'yesterday')
        start = int(rng[6:-1]) if use else 0
        if use and start>=len(body):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(body)}'); self.send_header('Content-Length', '0')
            return self.end_headers()
        self.send_response(206 if use else 200)
        if use: self.send_header('Content-Range', f'bytes {start+("shifted" in fault)}-{len(body)-1}/{len(body)}')
        if 'nomark' not in fault: self.send_header('ETag', etag)
        if 'dated' in fault: self.send_header('Last-Modified', 'yesterday')
        if 'nolength' in fault: self.close_connection = True
        else: self.send_header('Content-Length', str(len(body)-start))
        self.end_headers()
        stop = start + (len(body)-start)//2 if 'cut' in fault or 'stall' in fault else len(body)
        self.wfile.write(body[start:stop])
        self.wfile.flush()
        if 'stall' in fault: site.over.wait(5)
        if stop<len(body): self.close_connection = True

class Site:
    def __init__(self):
        self.files, self.faults, self.log, self.over = {}, {}, [], threading.Event()
        self.httpd = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.httpd.site, self.httpd.daemon_threads = self, True
        self.httpd.handle_error = lambda *args: None # clients hang up on it all the time
        self.url = f'http://127.0.0.1:{self.httpd.server_port}'
        threading.Thread(target=self.httpd.serve_forever, kwargs=dict(poll_interval=.02), daemon=True).start()
    def close(self): self.over.set(); self.httpd.shutdown(); self.httpd.server_close()

@pytest.fixture
def site(tmp_path, monkeypatch):
    "A server that is the official host too; fastai's folders in `tmp_path`; a data set called 'toy'"
    o = Site()
    o.files['/official/toy.zip'] = toy
    monkeypatch.setattr(external, 'OFFICIAL', (f'{o.url}/official',))
    monkeypatch.setattr(external, 'fastai_path', lambda k: tmp_path/'fastai'/k)
    monkeypatch.setattr(external.time, 'sleep', lambda s: None)
    monkeypatch.setitem(DATASETS, 'toy', DataSet('toy', len(toy), digest(toy), ('a','b'), 'A toy'))
    monkeypatch.delenv('CYCLEGAN_FASTAI_MIRRORS', raising=False)
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    o.data, o.archives = tmp_path/'fastai'/'data', tmp_path/'fastai'/'archive'
    yield o
    o.close()

def get(source='toy', timeout=5, progress=False, **kwargs):
    return untar_unpaired(source, timeout=timeout, progress=progress, **kwargs)

def same(path, files=pictures, top='toy/'):
    found = {p.relative_to(path).as_posix(): p.read_bytes() for p in Path(path).rglob('*') if p.is_file()}
    return found=={k.removeprefix(top): v for k,v in files.items()}

def names(folder): return sorted(p.name for p in folder.iterdir()) if folder.exists() else []

# Downloads

def test_good_download_and_no_second_request(site):
    assert get()==site.data/'toy' and same(site.data/'toy')
    assert names(site.archives)==['toy.zip'] and names(site.data)==['toy']
    site.close()
    assert same(get()) and len(site.log)==1

def test_data_are_unpacked_again_from_the_archive(site):
    shutil.rmtree(get())
    assert same(get()) and len(site.log)==1

def test_dest_archive_and_modes(site, tmp_path):
    path = get(dest=str(tmp_path/'my data'), archive=tmp_path/'my archives')
    assert path==tmp_path/'my data'/'toy' and names(tmp_path/'my archives')==['toy.zip'] and not site.data.exists()
    plain = tmp_path/'plain'; plain.mkdir()
    assert path.stat().st_mode==plain.stat().st_mode # not readable by its owner only, as temporary folders are

@pytest.mark.parametrize('fault', ['cut', 'cut dated weak', 'cut dated nomark', 'cut nolength'])
def test_truncated_then_resumed(site, fault):
    site.faults['/official/toy.zip'] = [fault, fault.replace('cut', '')]
    assert same(get())
    assert [o.range for o in site.log]==[None, f'bytes={len(toy)//2}-'] and site.log[1].if_range
    assert ('yesterday'==site.log[1].if_range)==('dated' in fault)
    assert names(site.archives)==['toy.zip']

def test_always_truncated(site):
    site.faults['/official/toy.zip'] = ['cut norange']
    with pytest.raises(DownloadError, match='(?s)toy.zip\n.*(more expected|broke off)'): get()
    assert len(site.log)==3 and names(site.data)==[] and (site.archives/'toy.zip.part').stat().st_size==len(toy)//2
    site.faults.clear()
    assert same(get()) and site.log[-1].range==f'bytes={len(toy)//2}-' # a later call goes on

@pytest.mark.parametrize('faults', [['cut','norange'], ['cut','shifted',''], ['cut nomark',''], ['cut','416',''],
                                    ['cut','416','norange']])
def test_start_over(site, faults):
    "A server that ignores `Range`, sends another one, or has not marked its file"
    site.faults['/official/toy.zip'] = faults
    assert same(get()) and names(site.archives)==['toy.zip']

def test_file_changed_on_the_server_between_two_tries(site):
    url = f'{site.url}/a.zip'
    site.files['/a.zip'], site.faults['/a.zip'] = toy, ['cut']
    with pytest.raises(DownloadError): get(url, tries=1)
    new = {k: v[::-1] for k,v in pictures.items()}
    site.files['/a.zip'] = zipped(new)
    site.faults.clear()
    assert same(get(url), new)

def test_416(site):
    "The part is complete already; or longer than the file"
    part, note = site.archives/'toy.zip.part', site.archives/'toy.zip.part.from'
    for data in (toy, toy+b'more'):
        site.archives.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        note.write_text(f'{site.url}/official/toy.zip\n"{digest(toy)[:8]}"')
        assert same(get()) and names(site.archives)==['toy.zip']
        shutil.rmtree(site.data.parent)
    assert [o.range for o in site.log]==[f'bytes={len(toy)}-', f'bytes={len(toy)+4}-', None]

@pytest.mark.parametrize('other', [zipped({'toy/trainA/1.jpg': b'cow'}), toy[:-1]+b'x', page, b''],
                         ids=['size','sum','page','empty'])
def test_wrong_file_then_next_mirror(site, other):
    site.files['/m/toy.zip'] = other
    assert same(get(mirrors=[f'{site.url}/m/']))
    assert [o.path for o in site.log]==['/m/toy.zip', '/official/toy.zip'] and names(site.archives)==['toy.zip']

def test_same_size_other_content(site):
    site.files['/m/toy.zip'] = toy.replace(pictures['toy/trainA/0.jpg'], bytes(40_000))
    with pytest.raises(DownloadError, match='sha256 is .*, not '): get(mirrors=f'{site.url}/m', sha256=digest(b'?'))
    assert not [o for o in names(site.archives)]
    assert same(get(mirrors=f'{site.url}/m')) and len(site.log)==4

def test_mirrors_order_and_environment(site, monkeypatch):
    monkeypatch.setenv('CYCLEGAN_FASTAI_MIRRORS', f'{site.url}/c {site.url}/d')
    assert same(get(mirrors=[f'{site.url}/a', f'{site.url}/b']))
    assert [o.path.split('/')[1] for o in site.log]==['a', 'b', 'c', 'd', 'official']

def test_404_everywhere_says_what_to_do(site):
    site.files.clear()
    with pytest.raises(DownloadError) as e: get(mirrors=f'{site.url}/m')
    msg, file = str(e.value), str(site.archives/'toy.zip')
    for o in (f'{site.url}/m/toy.zip', f'{site.url}/official/toy.zip', '404 Not Found',
              f'open {site.url}/official/toy.zip in', file, f'untar_unpaired({file!r})', 'mirrors=[',
              'CYCLEGAN_FASTAI_MIRRORS'): assert o in msg
    assert isinstance(e.value, (ConnectionError, OSError)) and len(site.log)==2 and names(site.archives)==[]
    Path(file).write_bytes(toy) # by hand
    assert same(get(file)) and same(get())

def test_416_unasked(site):
    site.faults['/official/toy.zip'] = ['416']
    with pytest.raises(DownloadError, match='rest that it promised'): get()

def test_nobody_listens(site):
    site.close()
    with pytest.raises(DownloadError, match='refused') as e: get(tries=2)
    assert 'object at 0x' not in str(e.value)

def test_name_without_a_host(site, monkeypatch):
    monkeypatch.setattr(external, 'OFFICIAL', ('http://toy.invalid',))
    def no_host(*args, **kwargs): raise socket.gaierror(-2, 'Name or service not known')
    monkeypatch.setattr('socket.getaddrinfo', no_host)
    with pytest.raises(DownloadError, match='esol'): get(tries=1)

@pytest.mark.parametrize('fault,n', [('silent',0), ('stall',len(toy)//2)])
def test_stalled_then_next_mirror(site, fault, n):
    site.files['/m/toy.zip'], site.faults['/m/toy.zip'] = toy, [fault]
    site.faults['/official/toy.zip'] = ['404', '']
    with pytest.raises(DownloadError, match='timed out'): get(mirrors=f'{site.url}/m', timeout=.3, tries=1)
    assert (site.archives/'toy.zip.part').exists()==bool(n)
    assert same(get(mirrors=f'{site.url}/m', timeout=.3, tries=1))

@pytest.mark.parametrize('status', ['500', '403', '429'])
def test_status_goes_to_the_next_at_once(site, status):
    site.faults['/m/toy.zip'] = [status]
    assert same(get(mirrors=f'{site.url}/m')) and len(site.log)==2

def test_interrupted_download_is_kept_and_resumed(site, monkeypatch):
    def bar(*args, **kwargs):
        class Bar:
            def update(self, n):
                if n>=2**17: raise KeyboardInterrupt
        return Bar()
    with monkeypatch.context() as m:
        m.setattr(external, 'progress_bar', bar)
        with pytest.raises(KeyboardInterrupt): get(progress=True)
    got = (site.archives/'toy.zip.part').stat().st_size
    assert 0<got<len(toy) and names(site.data)==[]
    assert same(get()) and site.log[-1].range==f'bytes={got}-'

def test_progress_bar(site, capsys):
    get(progress=True)
    assert f'{len(toy)}/{len(toy)}' in capsys.readouterr().out

def test_file_at_the_archives_place(site):
    site.archives.mkdir(parents=True)
    file = site.archives/'toy.zip'
    for data,why in ((b'mine', 'neither'), (page, 'web page'), (zipped({'a': b'1'}), 'size'), (toy[::-1], 'neither')):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=f'{why}.*Delete it'): get()
        assert file.read_bytes()==data
    file.write_bytes(toy)
    assert same(get()) and not site.log

def test_address(site):
    site.files['/x/My%20toy.tar.gz?v=1'] = site.files['/y/My%20toy.tar.gz'] = tarred(pictures, 'w:gz')
    a, b = get(f'{site.url}/x/My%20toy.tar.gz?v=1'), get(f'{site.url}/y/My%20toy.tar.gz')
    assert same(a) and same(b) and a!=b and a.name.startswith('My_toy-')
    for bad in ('..', '%2e%2e', 'a%2F..%2Fb.zip', ''):
        site.files[f'/{bad}'] = site.files['/'] = toy # requests resolves dots
        path = get(f'{site.url}/{bad}')
        assert path.parent==site.data and same(path)
    assert all(o.endswith(('.tar.gz','.zip')) or '-' in o for o in names(site.archives))

def test_address_with_checksum(site):
    url, site.files['/t.zip'] = f'{site.url}/t.zip', toy
    with pytest.raises(DownloadError, match='its sha256 is'): get(url, sha256='0'*64)
    assert same(get(url, sha256=digest(toy).upper()))

@pytest.mark.parametrize('url', ['ftp://a.org/a.zip', 's3://a/a.zip', 'file:///etc/passwd', 'http:///a', '://a.zip'])
def test_only_http(site, url):
    with pytest.raises(ValueError, match='http:// or https://'): get(url)
    if '//a' in url or 'etc' in url:
        with pytest.raises(ValueError, match='http:// or https://'): get(mirrors=url)

# Archives and folders of one's own

@pytest.mark.parametrize('ext,mode', [('zip',''), ('tar','w'), ('tar.gz','w:gz'), ('tgz','w:gz'), ('tar.bz2','w:bz2'),
                                      ('tar.xz','w:xz'), ('', 'w:gz')])
def test_local_archive(site, tmp_path, ext, mode):
    file = tmp_path/f'my photos{"."*bool(ext)}{ext}'
    file.write_bytes(data := tarred(pictures, mode) if mode else toy)
    before = file.stat()
    path = get(str(file))
    assert same(path) and path.parent==site.data and path.name.startswith('my photos-') and '.' not in path.name
    assert file.read_bytes()==data and file.stat().st_mtime_ns==before.st_mtime_ns and not site.log
    assert get(file)==path and get(file, dest=tmp_path/'d')==tmp_path/'d'/path.name

def test_changed_local_archive(site, tmp_path):
    file = tmp_path/'a.zip'
    file.write_bytes(toy)
    stamp, old = file.stat().st_mtime_ns, get(file)
    new = {k: v[::-1] for k,v in pictures.items()}
    file.write_bytes(zipped(new)) # same name, size and time
    os.utime(file, ns=(stamp, stamp))
    assert file.stat().st_size==len(toy) and same(get(file), new) and same(old)

def test_several_tops_and_mac_leftovers(site, tmp_path):
    file = tmp_path/'a.zip'
    files = {'trainA/1.jpg': b'1', 'trainB/1.jpg': b'2'}
    file.write_bytes(zipped(files))
    assert same(get(file), files)
    file.write_bytes(zipped({f'x/{k}': v for k,v in files.items()} | {'__MACOSX/._x': b'', '.DS_Store': b''}))
    assert same(get(file), files)
    file.write_bytes(zipped({k.replace('/', '\\'): v for k,v in files.items()})) # made by a careless Windows program
    assert same(get(file), files)

def test_local_with_checksum(site, tmp_path):
    file = tmp_path/'a.zip'; file.write_bytes(toy)
    assert same(get(file, sha256=digest(toy)))
    with pytest.raises(ValueError, match='sha256'): get(file, sha256='1'*64)

def test_folder(site, tmp_path, monkeypatch):
    (tmp_path/'toy').mkdir()
    assert get(tmp_path)==tmp_path and get(str(tmp_path))==tmp_path
    monkeypatch.chdir(tmp_path)
    assert get(Path('toy'))==Path('toy') and get('./toy')==Path('toy') and not site.log # the name means the data set
    assert same(get('toy'))

@pytest.mark.parametrize('name,near', [('horse2zebre','horse2zebra'), ('Horse2Zebra','horse2zebra'),
    ('horse2zebra.zip','horse2zebra'), ('summer2winter','summer2winter_yosemite'), ('apple2oranges','apple2orange'),
    ('ukiyo2photo','ukiyoe2photo'), ('facade','facades')])
def test_near_miss(site, name, near):
    with pytest.raises(FileNotFoundError, match=f"did you mean '{near}'"): get(name)

def test_unknown(site, tmp_path):
    with pytest.raises(FileNotFoundError, match='The names are .*maps'): get('qqqq')
    with pytest.raises(FileNotFoundError, match='no such.zip'): get(tmp_path/'no such.zip')

# Hostile and broken archives

def info(name, kind=None, target='/etc/passwd'):
    o = tarfile.TarInfo(name)
    if kind: o.type, o.linkname = kind, target
    return o

def zip_link():
    o = zipfile.ZipInfo('toy/link')
    o.create_system, o.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return zipped({**pictures, o: b'/etc'})

def encrypted():
    data = bytearray(zipped({'a.jpg': b'secret'}))
    for sig,at in ((b'PK\3\4', 6), (b'PK\1\2', 8)): data[data.index(sig)+at] |= 1
    return bytes(data)

def bomb():
    "Forty bytes that declare to be 1.5 GB"
    data = bytearray(zipped({'a.jpg': b'x'*40}))
    at = data.index(b'PK\1\2')+24
    data[at:at+4] = (1_500_000_000).to_bytes(4, 'little')
    return bytes(data)

outside = 'would land outside'
hostile = {
    **{f'zip {o}': (zipped({**pictures, o: b'evil'}), f'{outside}') for o in
       ('../evil', 'a/../../evil', '/evil', 'C:\\evil', 'C:evil', '\\\\host\\share\\evil', '..\\evil',
        'a\\..\\..\\evil')},
    **{f'tar {o}': (tarred({**pictures, o: b'evil'}, 'w:gz'), f'{outside}') for o in ('../evil', '/evil', 'C:\\evil')},
    'zip symlink': (zip_link(), "'toy/link' is a link"),
    **{f'tar {k}': (tarred(pictures, extra=[info('toy/x', t)]), "'toy/x' is a link or a device") for k,t in
       dict(symlink=tarfile.SYMTYPE, hardlink=tarfile.LNKTYPE, device=tarfile.CHRTYPE, fifo=tarfile.FIFOTYPE).items()},
    'encrypted': (encrypted(), 'encrypted'), 'bomb': (bomb(), 'would unpack to 1,500,000,000'),
    'empty zip': (zipped({}), 'no files'), 'empty tar': (tarred({}), 'no files'),
    'folders': (zipped({'a/': b''}), 'no files'),
    'page': (page, 'web page'), 'nothing': (b'', 'neither'), 'picture': (b'\xff\xd8\xff\xe0'*99, 'neither'),
    'cut zip': (toy[:-100], 'neither'), 'cut tar': (tarred(pictures)[:100_000], 'damaged'),
    'cut tar.gz': (tarred(pictures, 'w:gz')[:-1000], 'damaged'),
    'cut tar.xz': (tarred(pictures, 'w:xz')[:-1000], 'damaged'),
    'changed byte': (toy.replace(pictures['toy/trainB/1.jpg'][:99], bytes(99)), 'damaged.*trainB/1.jpg'),
    'tar header': (tarred({'a': b'1', 'b': b'2'}).replace(b'b\0', b'?\0', 1), 'damaged'),
    'file and folder': (zipped({'t/a': b'1', 't/a/b': b'2'}), 'damaged')}

@pytest.mark.parametrize('kind', hostile)
def test_hostile_archive(site, tmp_path, kind):
    data, why = hostile[kind]
    file = tmp_path/'archive'; file.write_bytes(data)
    with pytest.raises(ValueError, match=why) as e: get(file)
    assert str(file) in str(e.value) and names(site.data)==[] and file.read_bytes()==data
    assert names(tmp_path)==(['archive', 'fastai'] if site.data.exists() else ['archive'])

def test_hostile_archive_from_the_web(site):
    site.files['/evil.zip'] = hostile['zip ../evil'][0]
    with pytest.raises(ValueError, match="'../evil' would land outside"): get(f'{site.url}/evil.zip')
    assert names(site.data)==[] and not (site.data.parent/'evil').exists()

@pytest.mark.parametrize('make', [zipped, *(partial(tarred, mode=f'w{o}') for o in ('', ':gz', ':bz2', ':xz'))],
                         ids=['zip', 'tar', 'gz', 'bz2', 'xz'])
def test_damage_anywhere_is_an_error_that_names_the_file(site, tmp_path, make):
    "Bytes changed, archives cut: unpacked, or a `ValueError` with the file's name, and nothing left behind"
    good, rng = make({'t/a.jpg': b'horse'*200, 't/b/c.jpg': b'zebra'*200}), random.Random(1)
    file, dest = tmp_path/'archive', tmp_path/'dest'
    for i in range(120):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)): data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data[:rng.randrange(len(data))] if i%3==0 else data)
        try: shutil.rmtree(get(file, dest=dest))
        except ValueError as e: assert str(file) in str(e), (i, e)
        assert names(dest)==[]

@pytest.mark.parametrize('exc', [KeyboardInterrupt, OSError(errno.ENOSPC, 'No space left on device')])
def test_interrupted_unpacking_leaves_nothing(site, monkeypatch, exc):
    real, n = shutil.copyfileobj, []
    def copy(src, dst, *args):
        n.append(1)
        if len(n)==3: raise exc
        return real(src, dst, *args)
    with monkeypatch.context() as m:
        m.setattr(shutil, 'copyfileobj', copy)
        with pytest.raises(exc if exc is KeyboardInterrupt else OSError) as e: get()
    if exc is not KeyboardInterrupt:
        assert (e.value.errno, str(site.data) in str(e.value), '`dest`' in str(e.value)) == (errno.ENOSPC, True, True)
    assert names(site.data)==[] and names(site.archives)==['toy.zip']
    assert same(get()) and len(site.log)==1

def test_not_enough_room(site, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda p: namedtuple('Usage', 'free')(1000))
    with pytest.raises(OSError, match='240,000 bytes, 1,000 are free.*`dest`') as e: get()
    assert e.value.errno==errno.ENOSPC and names(site.data)==[]

def test_full_disk_while_downloading(site, monkeypatch):
    def full(*args, **kwargs): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(external, 'noop', lambda n: n and full())
    with pytest.raises(OSError, match='No space left.*`archive`') as e: get()
    assert e.value.errno==errno.ENOSPC and str(site.archives/'toy.zip') in str(e.value) and len(site.log)==1

@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid()==0, reason='root may write anywhere')
def test_read_only(site, tmp_path):
    (tmp_path/'fixed').mkdir(mode=0o500)
    with pytest.raises(PermissionError, match='`dest` and `archive`'): get(archive=tmp_path/'fixed'/'a')

def test_destination_is_a_file(site, tmp_path):
    (tmp_path/'f').write_text('')
    with pytest.raises(OSError, match='`dest`') as e: get(dest=tmp_path/'f')
    assert str(tmp_path/'f') in str(e.value)

def test_another_process_was_faster(site, monkeypatch):
    real = os.replace
    def slow(members, folder):
        shutil.copytree(site.data.parent.parent/'theirs', site.data/'toy')
        return write(members, folder)
    write = external._write
    theirs = site.data.parent.parent/'theirs'/'trainA'
    theirs.mkdir(parents=True); (theirs/'1.jpg').write_bytes(b'theirs')
    monkeypatch.setattr(external, '_write', slow)
    assert (get()/'trainA'/'1.jpg').read_bytes()==b'theirs' and names(site.data)==['toy']

def test_table():
    for k,o in DATASETS.items(): assert (k, len(o.sha256), len(o.domains))==(o.name, 64, 2) and o.size>3e7 and o.title
    assert len(DATASETS)==10 and DATASETS['facades'].domains==('photo','labels')
    assert DATASETS['maps'].domains==('aerial','map')
