"Many files: what they are called, where they are looked for, and what happens when something goes wrong"
import os, signal, subprocess, sys, time
from pathlib import Path

import numpy as np, pytest
from PIL import Image, ImageCms, JpegImagePlugin
from cyclegan_fastai.core.photo import image_kinds
from cyclegan_fastai.use.batch import *
from cyclegan_fastai.use.translator import Translator

def picture(path, size=(24,16), mode='RGB', seed=0, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    n = len(Image.new(mode, (1,1)).getbands())
    x = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], n), dtype=np.uint8)
    Image.fromarray(x[...,0] if n==1 else x).save(path, **kwargs)
    return path

def tree(folder, names):
    for i,o in enumerate(names): picture(folder/o, seed=i)
    return folder

def rel(paths, folder): return [o.relative_to(folder).as_posix() for o in paths]
def results(jobs, folder): return rel([o.result for o in jobs], folder)
def bytes_of(folder): return {o: (o.stat().st_mtime_ns, o.read_bytes()) for o in folder.rglob('*') if o.is_file()}
def status(rows): return [o['status'] for o in rows]

class Engine:
    "Does what it is told at each call, and otherwise nothing"
    radius,device = 0,'cpu'
    def __init__(self, *acts): self.acts,self.n = acts,0
    def __call__(self, x):
        act = self.acts[self.n] if self.n<len(self.acts) else None
        self.n += 1
        if act: raise act
        return x
    def fixed(self, samples): return self

def same(*acts): return Translator({'winter': Engine(*acts)}, ('summer','winter'))

# Names

@pytest.mark.parametrize('name,expected', [
    ('a.jpg', 'a_winter.jpg'), ('a.JPG', 'a_winter.JPG'), ('a.jpeg', 'a_winter.jpeg'), ('a.jfif', 'a_winter.jfif'), ('a.png', 'a_winter.png'),
    ('a.webp', 'a_winter.webp'), ('a.tif', 'a_winter.tif'), ('a.TIFF', 'a_winter.TIFF'), ('a.bmp', 'a_winter.bmp.png'),
    ('a.gif', 'a_winter.gif.png'), ('a.ppm', 'a_winter.ppm.png'), ('a.b.jpg', 'a.b_winter.jpg'), ('Straße, früh.jpg', 'Straße, früh_winter.jpg'),
    ('日本 [1].png', '日本 [1]_winter.png'), ("it's {not} 100%.png", "it's {not} 100%_winter.png")])
def test_kind_stays_or_becomes_png(tmp_path, name, expected):
    [job] = find_images([picture(tmp_path/'in'/name)], tmp_path/'out', 'winter')
    assert results([job], tmp_path)==[f'out/{expected}'] and not job.moves
    [row] = translate_files(same(), [job])
    assert row['status']=='done', row['problem']
    kinds = {'jpg':'JPEG', 'jpeg':'JPEG', 'jfif':'JPEG', 'tif':'TIFF', 'tiff':'TIFF'}
    end = expected.rsplit('.')[-1].lower()
    with Image.open(job.result) as im: assert (im.format, im.size)==(kinds.get(end, end.upper()), (24,16))

def test_no_two_names_of_a_folder_become_one():
    "Whatever lies side by side; also names that look like results"
    kinds = dict(jpg='JPEG', jpeg='JPEG', png='PNG', webp='WEBP', tif='TIFF', mp4='MP4')
    stems = ['a', 'a.bmp', 'a.mov', 'a_winter', 'a_winter.bmp', 'a.png', 'a.png_winter']
    ends = [*kinds, 'bmp', 'gif', 'ppm', 'mov', 'avi']
    made = [result_name(Path(f'{s}.{e}'), 'winter', kinds.get(e, 'MP4' if e in ('mov','avi') else 'PNG')) for s in stems for e in ends]
    assert len(set(made))==len(stems)*len(ends)

def test_content_counts_not_the_name(tmp_path):
    clear = picture(tmp_path/'clear.jpg', mode='RGBA', format='PNG')
    jpeg = picture(tmp_path/'photo.png', format='JPEG')
    jobs = find_images([clear, jpeg], tmp_path/'out', 'winter')
    assert results(jobs, tmp_path/'out')==['clear_winter.jpg.png', 'photo_winter.png.jpg']
    assert status(translate_files(same(), jobs))==['done','done']
    with Image.open(jobs[0].result) as im, Image.open(clear) as source: assert np.array_equal(im.getchannel('A'), source.getchannel('A'))

def test_a_domain_is_no_folder(tmp_path):
    [job] = find_images([picture(tmp_path/'a.png')], tmp_path/'out', '../up')
    assert job.result.parent==tmp_path/'out'

# Pixels

@pytest.mark.parametrize('name,mode', [('a.png','RGB'), ('a.png','RGBA'), ('a.png','L'), ('a.tif','RGB'), ('a.tif','RGBA'), ('a.bmp','RGB')])
def test_lossless_kinds_hold_what_the_translator_gives(tmp_path, translator, name, mode):
    file = picture(tmp_path/name, (50,37), mode)
    [row] = translate_files(translator, find_images([file], tmp_path/'out', 'winter'), 'winter')
    with Image.open(row['result']) as im: assert im.size==(50,37) and np.array_equal(im, translator(file, 'winter'))

@pytest.mark.parametrize('name', ['a.jpg','a.webp'])
def test_lossy_kinds_come_close(tmp_path, name):
    smooth = Image.linear_gradient('L').resize((64,48)).convert('RGB')
    smooth.save(tmp_path/name, quality=95)
    [row] = translate_files(same(), find_images([tmp_path/name], tmp_path/'out', 'winter'))
    with Image.open(row['result']) as im, Image.open(tmp_path/name) as source:
        assert np.abs(np.array(im).astype(int)-np.array(source)).max() <= 6
        if im.format=='JPEG': assert JpegImagePlugin.get_sampling(im)==0

@pytest.mark.parametrize('name', ['a.jpg','a.png','a.webp','a.tif'])
def test_colour_profile_is_kept(tmp_path, name):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    [row] = translate_files(same(), find_images([picture(tmp_path/name, icc_profile=profile)], tmp_path/'out', 'winter'))
    with Image.open(row['result']) as im: assert im.info['icc_profile']==profile

def test_upright_and_size(tmp_path):
    exif = Image.Exif(); exif[274] = 6
    file = picture(tmp_path/'a.jpg', (40,20), exif=exif)
    jobs = find_images([file], tmp_path/'out', 'winter')
    for size,expected in ((None, (20,40)), (10, (10,20))):
        [row] = translate_files(same(), jobs, size=size)
        with Image.open(row['result']) as im: assert (row['status'], im.size)==('done', expected)
        assert status(translate_files(same(), jobs, size=size))==['skipped']

# Where files are looked for

NAMES = ['a.jpg', 'b.PNG', 'sub/a.jpg', 'sub/deep er/ü.png', 'other/a.jpg']

def test_folder_structure_is_kept(tmp_path):
    photos = tree(tmp_path/'in', NAMES)
    for name in ('.hidden.jpg', '._a.jpg', '.git/a.jpg', 'sub/.cache/a.jpg'): picture(photos/name)
    (photos/'notes.txt').write_text('x'); (photos/'a.jpg.part').write_bytes(b'x'); (photos/'film.mov').write_bytes(b'x')
    jobs = find_images([photos], tmp_path/'out', 'winter')
    assert results(jobs, tmp_path/'out')==['a_winter.jpg', 'b_winter.PNG', 'film_winter.mov.mp4', 'other/a_winter.jpg', 'sub/a_winter.jpg',
                                           'sub/deep er/ü_winter.png']
    assert [o.moves for o in jobs]==[False, False, True, False, False, False]

@pytest.mark.parametrize('pattern,expected', [
    ('in/*.jpg', ['a']), ('in/**/*.jpg', ['a','other/a','sub/a']), ('in/s*/*.jpg', ['sub/a']), ('in/*/a.jpg', ['other/a','sub/a']),
    ('in/sub/*', ['a']), ('in/**/ü.*', ['sub/deep er/ü']), ('in/[so]*/a.jpg', ['other/a','sub/a']), ('i?/a.jpg', ['in/a'])])
@pytest.mark.parametrize('absolute', [True, False])
def test_patterns(tmp_path, monkeypatch, pattern, expected, absolute):
    tree(tmp_path/'in', NAMES)
    monkeypatch.chdir(tmp_path)
    jobs = find_images([f'{tmp_path}/{pattern}' if absolute else pattern], 'out', 'winter')
    assert [o.result.with_suffix('').as_posix() for o in jobs]==[f'out/{o}_winter' for o in expected]

def test_brackets_are_names_first(tmp_path):
    folder = tree(tmp_path/'trip [2024]', ['a[1].jpg', 'a1.jpg'])
    assert rel([o.source for o in find_images([folder/'a[1].jpg'], tmp_path/'out', 'w')], folder)==['a[1].jpg']
    assert rel([o.source for o in find_images([f'{folder}/*.jpg'], tmp_path/'out', 'w')], folder)==['a1.jpg', 'a[1].jpg']
    (folder/'a[1].jpg').unlink()
    assert rel([o.source for o in find_images([folder/'a[1].jpg'], tmp_path/'out', 'w')], folder)==['a1.jpg']

def test_results_inside_the_source_are_no_sources(tmp_path):
    photos = tree(tmp_path/'in', NAMES)
    out = photos/'translated'
    for sources in ([photos], [f'{photos}/**/*.*']):
        first = find_images(sources, out, 'winter')
        list(translate_files(same(), first))
        assert find_images(sources, out, 'winter')==first and len(first)==len(NAMES)
        assert [o.source for o in find_images(sources, out, 'summer')]==[o.source for o in first]
    by_name = [*photos.glob('*.jpg'), *photos.glob('*.PNG')]                       # beside the sources, as a shell expands `*`
    list(translate_files(same(), find_images(by_name, photos, 'winter')))
    assert (photos/'a_winter.jpg').exists()
    assert find_images([*photos.glob('*.jpg'), *photos.glob('*.PNG')], photos, 'winter')==find_images(by_name, photos, 'winter')

def test_links(tmp_path):
    photos = tree(tmp_path/'in', ['a.jpg'])
    tree(tmp_path/'elsewhere', ['b.jpg'])
    (photos/'linked').symlink_to(tmp_path/'elsewhere')
    (photos/'loop').symlink_to(photos)
    (tmp_path/'elsewhere'/'loop').symlink_to(tmp_path/'elsewhere')
    assert results(find_images([photos], tmp_path/'out', 'w'), tmp_path/'out')==['a_w.jpg', 'linked/b_w.jpg']

def test_the_same_file_twice_is_one(tmp_path):
    photos = tree(tmp_path/'in', ['a.jpg'])
    assert len(find_images([photos, photos/'a.jpg', f'{photos}/*.jpg', photos/'..'/'in'/'a.jpg'], tmp_path/'out', 'w'))==1

@pytest.mark.parametrize('sources,error,words', [
    (['in/a.jpg','in/sub/a.jpg'], ValueError, ['in/a.jpg` and `','in/sub/a.jpg` would both become','name the folder above both']),
    (['in/sub','in/other'], ValueError, ['would both become']),
    (['in','in/empty'], ValueError, ['in/empty` holds no image']),
    (['in/*.tiff'], ValueError, ['in/*.tiff` matches no image']),
    (['nowhere.jpg'], FileNotFoundError, ['nowhere.jpg`']), (['no/where','nor.png'], FileNotFoundError, ['no/where','nor.png']),
    (['out'], ValueError, ['`out` must be another folder']), (['out/*'], ValueError, ['`out` must be another folder']),
    (['out/../out/'], ValueError, ['`out` must be another folder'])])
def test_refused_before_any_work(tmp_path, monkeypatch, sources, error, words):
    tree(tmp_path/'in', NAMES); (tmp_path/'in'/'empty').mkdir(); tree(tmp_path/'out', ['x.jpg'])
    monkeypatch.chdir(tmp_path)
    before = bytes_of(tmp_path)
    with pytest.raises(error) as e: find_images(sources, 'out', 'winter')
    assert not [o for o in words if o not in str(e.value)] and '\n' not in str(e.value)
    assert bytes_of(tmp_path)==before

def test_out_is_a_file(tmp_path):
    with pytest.raises(NotADirectoryError, match='`out` must be a folder'): find_images([picture(tmp_path/'a.jpg')], picture(tmp_path/'b.jpg'), 'w')

@pytest.mark.parametrize('to,size,match', [('autumn', None, '`to` must be'), (None, 2, '`size` must be'), (None, 'big', '`size` must be')])
def test_settings_are_looked_at_first(tmp_path, translator, to, size, match):
    jobs = find_images([picture(tmp_path/'a.jpg')], tmp_path/'out', 'winter')
    with pytest.raises(ValueError, match=match): translate_files(translator, jobs, to, size)
    assert not (tmp_path/'out').exists()

# What goes wrong, and what is done already

def test_bad_files_stop_nothing(tmp_path, translator):
    photos = tree(tmp_path/'in', [f'{i}.png' for i in range(6)])
    (photos/'1.png').write_bytes((photos/'1.png').read_bytes()[:200])              # cut off
    (photos/'3.png').write_bytes(b'')
    (photos/'4.png').write_text('<html>')
    (tmp_path/'out'/'5_winter.png').mkdir(parents=True)                            # somebody's folder has the name of a result
    jobs = find_images([photos, tmp_path/'missing.png'], tmp_path/'out', 'winter')
    rows = list(translate_files(translator, jobs, 'winter'))
    assert status(rows)==['done','failed','done','failed','failed','failed','failed']
    assert [o['problem']=='' for o in rows]==[True, False, True, False, False, False, False]
    for i in (1,3,4): assert f'{i}.png` can\'t be read as an image' in rows[i]['problem']
    assert 'missing.png' in rows[6]['problem']
    assert not list(tmp_path.rglob('*.part'))
    assert rel(sorted(o for o in (tmp_path/'out').rglob('*') if o.is_file()), tmp_path/'out')==['0_winter.png','2_winter.png']
    picture(photos/'1.png')                                                        # mended
    assert status(translate_files(translator, jobs, 'winter'))==['skipped','done','skipped','failed','failed','failed','failed']

def test_pipes_are_not_waited_for(bell, tmp_path, translator):
    photos = tree(tmp_path/'in', ['a.png'])
    for o in ('b.png','c.gif'): os.mkfifo(photos/o)
    picture(tmp_path/'out'/'b_winter.png')                                         # newer than its source, and no result of it
    bell('pipes')
    rows = list(translate_files(translator, find_images([photos], tmp_path/'out', 'winter'), 'winter'))
    assert status(rows)==['done','failed','failed'] and all('it is no file' in o['problem'] for o in rows[1:])

@pytest.mark.parametrize('error,said', [
    (MemoryError(), 'MemoryError'), (RuntimeError('CUDA out of memory'), 'CUDA out of memory'), (OSError(28, 'No space left'), 'No space left')])
def test_any_error_is_a_row(tmp_path, error, said):
    photos = tree(tmp_path/'in', ['a.png','b.png','c.png'])
    rows = list(translate_files(same(None, error), find_images([photos], tmp_path/'out', 'winter')))
    assert status(rows)==['done','failed','done'] and said in rows[1]['problem']

def test_out_that_cannot_be_written(tmp_path):
    if os.geteuid()==0: pytest.skip('root may write anywhere')
    photos = tree(tmp_path/'in', ['a.png']); (tmp_path/'out').mkdir(mode=0o500)
    [row] = translate_files(same(), find_images([photos], tmp_path/'out', 'winter'))
    assert row['status']=='failed' and 'ermission' in row['problem']

def test_interrupt_passes_through_and_leaves_nothing_half(tmp_path):
    photos = tree(tmp_path/'in', ['a.png','b.png','c.png'])
    jobs,seen = find_images([photos], tmp_path/'out', 'winter'),[]
    with pytest.raises(KeyboardInterrupt):
        for row in translate_files(same(None, KeyboardInterrupt()), jobs): seen.append(row['status'])
    assert seen==['done'] and [o.name for o in (tmp_path/'out').iterdir()]==['a_winter.png']
    assert status(translate_files(same(), jobs))==['skipped','done','done']

def test_done_is_newer_than_source_and_model(tmp_path):
    photos,model = tree(tmp_path/'in', ['a.png','b.png']),tmp_path/'model'
    model.write_text('x')
    jobs = find_images([photos], tmp_path/'out', 'winter')
    def again(**kwargs): return status(translate_files(same(), jobs, newer_than=[model], **kwargs))
    def touch(path, seconds): os.utime(path, ns=(time.time_ns()+int(seconds*1e9),)*2)
    assert again()==['done','done'] and again()==['skipped','skipped']
    assert again(overwrite=True)==['done','done']
    for o in jobs: touch(o.result, 10)
    touch(photos/'a.png', 20)
    assert again()==['done','skipped']                                             # a newer source
    touch(photos/'a.png', -10); touch(model, 20)
    assert again()==['done','done']                                                # a newer model
    touch(model, -10)
    for o in jobs: touch(o.result, 10)
    assert again()==['skipped','skipped']
    assert again(size=8)==['done','done']                                          # another size
    jobs[0].result.write_bytes(b'damaged'); touch(jobs[0].result, 10); touch(jobs[1].result, 10)
    assert again(size=8)==['done','skipped']

CHILD = '''
import sys, torch
torch.set_num_threads(1)
from cyclegan_fastai.use.batch import *
from cyclegan_fastai.use.translator import Translator
model,photos,out = sys.argv[1:]
for row in translate_files(Translator.load(model, device='cpu'), find_images([photos], out, 'winter'), 'winter'): print(row['status'], flush=True)
'''

@pytest.mark.parametrize('sig', [signal.SIGKILL, signal.SIGINT])
def test_killed_and_resumed(tmp_path, model_file, translator, sig):
    "A real process, ended in the middle of a folder; then the same again"
    photos = tmp_path/'in'
    for i in range(40): picture(photos/f'{i:02}.png', (160,120), seed=i)
    args = [model_file, photos, tmp_path/'out']
    p = subprocess.Popen([sys.executable, '-c', CHILD, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert [p.stdout.readline() for _ in range(4)]==['done\n']*4
    p.send_signal(sig)
    rest = p.stdout.read()
    assert p.wait()!=0 and rest.count('done')<30                                   # in the middle indeed
    made = {k: v for k,v in bytes_of(tmp_path/'out').items() if k.suffix!='.part'}
    assert 4 <= len(made) < 40
    for o in made: Image.open(o).load()
    if sig==signal.SIGINT: assert not list((tmp_path/'out').glob('*.part'))
    jobs = find_images([photos], tmp_path/'out', 'winter')
    todo = next(o.result for o in jobs if o.result not in made)
    (todo.parent/f'{todo.name}.part').write_bytes(b'half of a file')               # as the kill may have left it
    rows = list(translate_files(translator, jobs, 'winter'))
    assert status(rows)==['skipped' if o.result in made else 'done' for o in jobs]
    assert {k: v for k,v in bytes_of(tmp_path/'out').items() if k in made}==made
    assert len(list((tmp_path/'out').iterdir()))==40
    for o in jobs: assert np.array_equal(Image.open(o.result), translator(o.source, 'winter'))

decoder = """from io import BytesIO
from PIL import Image,PngImagePlugin
def opened(f, name): f.seek(12); return PngImagePlugin.PngImageFile(BytesIO(f.read()))
Image.register_open('HEIF', opened, lambda head: head[4:12]==b'ftypheic')
Image.register_mime('HEIF', 'image/heif')
Image.register_extensions('HEIF', ['.heic'])
"""
uses = dict(
    batch="from cyclegan_fastai.use.batch import *; print([o.source.name for o in find_images('in', 'out', 'w')])",
    translator="from cyclegan_fastai.use.translator import *; print(Translator.load(sys.argv[1])('in/a.heic').size)",
    app="from cyclegan_fastai.use.app import *; print(open_upload('in/a.heic').size)",
    web="from cyclegan_fastai.use.web import as_photo; print(as_photo('in/a.heic').size)",
    data="from cyclegan_fastai.data.files import *; print(image_files('in')[0].name, open_image('in/a.heic').size)")

@pytest.mark.parametrize('name', uses)
def test_heic_is_known_everywhere(tmp_path, root, model_file, name):
    "Where there is a decoder, each part finds it alone, whatever was imported before; the decoder here is a stand-in"
    (tmp_path/'pillow_heif').mkdir()
    for o in ('__init__','HeifImagePlugin'): (tmp_path/'pillow_heif'/f'{o}.py').write_text(decoder if o[0]=='H' else '')
    png = picture(tmp_path/'a.png').read_bytes()
    (tmp_path/'in').mkdir(); (tmp_path/'in'/'a.heic').write_bytes(b'\0\0\0\x1cftypheic'+png)
    env = {**os.environ, 'PYTHONPATH': f'{tmp_path}{os.pathsep}{root}', 'OMP_NUM_THREADS': '1'}
    res = subprocess.run([sys.executable, '-W', 'ignore', '-c', f'import sys\n{uses[name]}', model_file], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert res.returncode==0 and ('a.heic' in res.stdout or '(24, 16)' in res.stdout), res.stderr

@pytest.mark.skipif('HEIF' in image_kinds(), reason='pillow-heif is installed')
def test_heic_without_a_decoder_is_no_success(tmp_path):
    photos = tree(tmp_path/'in', ['a.jpg'])
    for i in range(3): (photos/f'IMG_{i}.HEIC').write_bytes(b'\0\0\0\x1cftypheic...')
    rows = list(translate_files(same(), find_images([photos], tmp_path/'out', 'winter')))
    assert sorted(status(rows))==['done','failed','failed','failed']
    assert all('pip install pillow-heif' in o['problem'] for o in rows if o['status']=='failed')

@pytest.mark.parametrize('source', ['in', 'in/**/*'])
def test_what_is_passed_over_is_named(tmp_path, monkeypatch, source):
    photos = tree(tmp_path/'in', ['a.jpg', 'runs/first/sample_grid.png'])
    for o in ('notes.txt', 'sub/raw.cr2', '.hidden'): (photos/o).parent.mkdir(exist_ok=True); (photos/o).write_text('x')
    if source=='in': (photos/'runs'/'first'/'recipe.json').write_text('{}')
    else: (photos/'runs'/'first'/'sample_grid.png').unlink()
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning) as w: jobs = find_images([source], 'out', 'w')
    assert [o.source.as_posix() for o in jobs]==['in/a.jpg']
    assert [str(o.message) for o in w]==['Files passed over because of their endings: 2 (`in/notes.txt`, `in/sub/raw.cr2`)']
    (photos/'a.jpg').unlink()
    with pytest.raises(ValueError, match='no image and no video.*2 .`in/notes.txt`'): find_images([source], 'out', 'w')

def test_pages_that_are_not_translated_are_named(tmp_path):
    picture(tmp_path/'scan.tif', save_all=True, append_images=[Image.new('RGB', (24,16))])
    with pytest.warns(UserWarning, match='scan.tif` holds 2 pages or frames, of which the first is read'):
        assert status(translate_files(same(), find_images([tmp_path/'scan.tif'], tmp_path/'out', 'w')))==['done']

def test_nothing_heavy_comes_in(root):
    code = "import sys, cyclegan_fastai.use.batch; print(*{'torch','fastai','imageio_ffmpeg','onnxruntime'} & set(sys.modules))"
    assert subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True, check=True).stdout.strip()==''
