"Unpaired data: every photograph that the web can send, the layouts, and what an epoch shows"
import os, pickle, random, shutil, struct, unicodedata, zipfile, zlib
from io import BytesIO
from pathlib import Path, PurePosixPath, PureWindowsPath

import cloudpickle, numpy as np, pandas as pd, pytest, torch
from fastai.vision.all import (ColReader, ColSplitter, DataBlock, FuncSplitter, Learner, RandomSplitter,
                               TensorImage, get_image_files, load_learner, nn, plt)
from PIL import Image, TiffImagePlugin

import cyclegan_fastai.data.unpaired as data, cyclegan_fastai.data.files as files_module
from cyclegan_fastai.data.transforms import AugmentEach, CropBatch, ResizeTo, unpaired_tfms
from cyclegan_fastai.data.unpaired import UnpairedBlock, UnpairedDataLoaders, UnpairedDL
from cyclegan_fastai.data.tensors import load_images
from cyclegan_fastai.core.photo import DamagedImage, as_photo, image_kinds, left_out
from cyclegan_fastai.data.files import UnpairedFiles, find_unpaired, image_files, open_image, two_folders
from cyclegan_fastai.data.inspect import inspect_images, verify_unpaired

# A picture whose corners tell how it lies, and what each way of writing it should give back

red, green, blue, white, black = (230,20,20), (20,200,40), (30,40,220), (255,255,255), (0,0,0)
corners = [red, green, blue, white] # top left, top right, bottom left, bottom right
def quarters(w=48, h=32, colours=corners):
    x = np.zeros((h,w,3), np.uint8)
    for i,c in enumerate(colours): x[i//2*(h//2):(i//2+1)*(h//2), i%2*(w//2):(i%2+1)*(w//2)] = c
    return x
photo = Image.fromarray(quarters())
grey = [(round(.299*r+.587*g+.114*b),)*3 for r,g,b in corners]
half = Image.fromarray(np.where(np.arange(32)[:,None]<16, 255, 0).astype(np.uint8).repeat(48, 1)) # a mask: above opaque
def veiled(mode): im = photo.convert(mode); im.putalpha(half); return im
def over_white(colours): return [*colours[:2], white, white]

def saved(im, format, **kwargs):
    b = BytesIO()
    im.save(b, format, **kwargs)
    return b.getvalue()

jpeg, png = saved(photo, 'JPEG', quality=95, subsampling=0), saved(photo, 'PNG')
noise = saved(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64,64,3), dtype=np.uint8)), 'JPEG')

def palette_with_hole():
    im = photo.quantize(4)
    return saved(im, 'PNG', transparency=im.getpixel((0,31))) # blue is looked through
def chunk(kind, body): return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind+body))
def bomb(): # a header that promises 40 gigabytes
    head = struct.pack('>IIBBBBB', 120_000, 120_000, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(b'0'*100)) + chunk(b'IEND', b'')
def spoilt(b, at, n=64): return b[:int(len(b)*at)] + bytes(range(n)) + b[int(len(b)*at)+n:]
def deep(): return Image.fromarray(np.asarray(photo.convert('L')).astype(np.uint16)*257)
def frames(mode='RGB'): return dict(save_all=True, append_images=[Image.new(mode, photo.size, 'black')])

good = { # name of the file: (its bytes, the corners it should have)
    'plain.jpg': (jpeg, corners),
    'UPPER.JPG': (jpeg, corners),
    'Upper.JPEG': (jpeg, corners),
    'two words & a colon: really.jpg': (jpeg, corners),
    'Jökulsárlón 冰川 ❄.jpg': (jpeg, corners),
    'below/and further/nested.jpg': (jpeg, corners),
    'folder.jpg/inside.jpg': (jpeg, corners),
    'progressive.jpg': (saved(photo, 'JPEG', quality=95, subsampling=0, progressive=True), corners),
    'grey.jpg': (saved(photo.convert('L'), 'JPEG', quality=95), grey),
    'cmyk.jpg': (saved(photo.convert('CMYK'), 'JPEG', quality=95, subsampling=0), corners),
    'two pictures in one.jpg': (saved(photo, 'MPO', quality=95, subsampling=0, **frames()), corners),
    'more after the end.jpg': (jpeg+b'and an advertisement', corners),
    'broken exif.jpg': (saved(photo, 'JPEG', quality=95, subsampling=0, exif=b'Exif\0\0II*\0\xff\xff\xff\xff\1\2'), corners),
    'plain.png': (png, corners),
    'a png.jpg': (png, corners),
    'palette.png': (saved(photo.quantize(4), 'PNG'), corners),
    'palette, transparent.png': (palette_with_hole(), [red, green, white, white]),
    'alpha.png': (saved(veiled('RGB'), 'PNG'), over_white(corners)),
    'grey and alpha.png': (saved(veiled('L'), 'PNG'), over_white(grey)),
    'one colour transparent.png': (saved(photo, 'PNG', transparency=blue), [red, green, white, white]),
    'one bit.png': (saved(half.convert('1'), 'PNG'), [white, white, black, black]),
    'sixteen bits.png': (saved(deep(), 'PNG'), grey),
    'plain.gif': (saved(photo, 'GIF'), corners),
    'a gif.jpg': (saved(photo, 'GIF'), corners),
    'moving.gif': (saved(photo, 'GIF', **frames()), corners),
    'lossless.webp': (saved(photo, 'WEBP', lossless=True), corners),
    'alpha.webp': (saved(veiled('RGB'), 'WEBP', lossless=True), over_white(corners)),
    'plain.bmp': (saved(photo, 'BMP'), corners),
    'plain.tiff': (saved(photo, 'TIFF'), corners),
    'cmyk.tif': (saved(photo.convert('CMYK'), 'TIFF'), corners),
    'sixteen bits.tif': (saved(deep(), 'TIFF'), grey),
    'floats.tif': (saved(Image.fromarray(np.asarray(photo.convert('L')).astype(np.float32)/255), 'TIFF'), grey),
    'a pixel high.png': (saved(photo.crop((0,0,48,1)), 'PNG'), [red, green, red, green]),
    'a pixel wide.png': (saved(photo.crop((0,0,1,32)), 'PNG'), [red, red, blue, blue]),
    'a pixel.png': (saved(photo.crop((0,0,1,1)), 'PNG'), [red]*4),
}
damaged = { # name of the file: its bytes
    'cut short.jpg': jpeg[:len(jpeg)//2],
    'cut in its header.jpg': jpeg[:30],
    'cut short.png': png[:len(png)*2//3],
    'cut short.gif': saved(photo, 'GIF')[:60],
    'empty.jpg': b'',
    'text.jpg': b'404 Not Found\n',
    'a page: please sign in.png': b'<!DOCTYPE html><html><body>Please sign in</body></html>',
    'bomb.png': bomb(),
    'spoilt.png': spoilt(png, .5, 16),
    'no width.png': b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 0, 9, 8, 2, 0, 0, 0)),
}
ignored = {'.hidden.jpg': jpeg, '._plain.jpg': b'mac', '.DS_Store': b'mac', 'notes.txt': b'text', 'Thumbs.db': b'windows',
           'drawing.svg': b'<svg/>', 'unfinished.jpg.part': jpeg, '.cache/small.jpg': jpeg}

def put(fn, content):
    "Write `content`: bytes, an image, or a colour"
    fn.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, tuple): content = Image.new('RGB', (32,32), content)
    if isinstance(content, Image.Image): content = saved(content, 'PNG')
    fn.write_bytes(content)
    return fn

def domains(path, n_a=3, n_b=2, a='A', b='B', **more):
    "Two folders of images, each of one grey that tells its place: 10 more each"
    for folder,n,start in ((a,n_a,10),(b,n_b,130), *((k,n,60) for k,n in more.items())):
        (path/folder).mkdir(parents=True)
        for i in range(n): put(path/folder/f'{i:02d}.png', (start+10*i,)*3)
    return path

plainly = dict(size=24, load=24, aug_tfms=[], bs=1)
def grey_of(x): return [round((o.mean().item()+1)*127.5) for o in x]
def greys(dl): return [tuple(grey_of(o)[0] for o in b) for b in dl]

def sees(im, expected, tol=6):
    w,h = im.size
    found = [im.getpixel(o) for o in ((0,0),(w-1,0),(0,h-1),(w-1,h-1))]
    assert np.abs(np.array(found)-np.array(expected)).max()<=tol, (found, expected)

# One photograph

@pytest.mark.parametrize('name', good)
def test_opens_and_trains(tmp_path, name):
    content, expected = good[name]
    domains(tmp_path)
    fn = put(tmp_path/'A'/name, content)
    im = open_image(fn)
    assert im.mode=='RGB'
    sees(im, expected)
    sees(open_image(fn, draft=8), expected, tol=20)
    dls = UnpairedDataLoaders.from_folder(tmp_path, size=24, bs=4, valid_pct=0)
    assert fn in [f for f,_ in dls.train_ds.items]
    (a,b), = dls.train
    for x in (a,b):
        assert type(x) is TensorImage and x.shape==(4,3,24,24) and x.dtype==torch.float32
        assert -1<=x.min() and x.max()<=1
    plain = UnpairedDataLoaders.from_folder(tmp_path, valid_pct=0, **plainly).train_ds
    x = load_images([fn], 24)[0]
    assert [f for f,_ in plain.items].count(fn)==1 and x.shape==(3,24,24)
    sees(Image.fromarray(((x+1)*127.5).round().byte().permute(1,2,0).numpy()), expected, tol=12)

@pytest.mark.parametrize('name', damaged)
def test_damaged_is_named_or_skipped(tmp_path, name):
    domains(tmp_path)
    fn = put(tmp_path/'A'/name, damaged[name])
    with pytest.raises(DamagedImage) as e: open_image(fn)
    assert f'`{fn}` can' in str(e.value) and "damaged='skip'" in str(e.value) and '\n' not in str(e.value)
    refused_or_skipped(tmp_path, fn)

def refused_or_skipped(path, fn):
    with pytest.raises(DamagedImage) as e: UnpairedDataLoaders.from_folder(path, size=24)
    assert str(fn) in str(e.value)
    with pytest.warns(UserWarning) as w: dls = UnpairedDataLoaders.from_folder(path, size=24, damaged='skip', valid_pct=0)
    assert [str(fn) in str(o.message) and '1 damaged' in str(o.message) for o in w]==[True]
    assert fn not in [f for f,_ in dls.train_ds.items] and len(dls.train_ds)==5
    assert len([b for b in dls.train])==3
    found = verify_unpaired(path)
    assert found[['file','domain','problem']].values.tolist()==[[fn,'A','damaged']] and str(fn) in found.detail[0]

def test_broken_link_is_named_or_skipped(tmp_path):
    fn = domains(tmp_path)/'A'/'link.jpg'
    fn.symlink_to(tmp_path/'gone.jpg')
    refused_or_skipped(tmp_path, fn)

def test_link_to_a_photograph_is_one(tmp_path):
    (domains(tmp_path/'data')/'A'/'link.jpg').symlink_to(put(tmp_path/'elsewhere.jpg', jpeg))
    sees(open_image(tmp_path/'data'/'A'/'link.jpg'), corners)
    assert len(find_unpaired(tmp_path/'data', 0).train_a)==4

def test_links_to_folders_are_followed_once(tmp_path):
    "Two links to a folder above themselves would make each file appear 2⁴⁰ times"
    domains(tmp_path/'data'); put(tmp_path/'elsewhere'/'x.png', png)
    below = tmp_path/'data'/'A'/'below'
    put(below/'y.png', png)
    for name,to in dict(up='..', again='..', other=tmp_path/'elsewhere', twin=tmp_path/'elsewhere').items(): (below/name).symlink_to(to)
    assert [o.relative_to(tmp_path/'data'/'A').as_posix() for o in image_files(tmp_path/'data'/'A')]==[
        '00.png','01.png','02.png','below/other/x.png','below/y.png']
    assert len(find_unpaired(tmp_path/'data', 0).train_a)==5

def test_a_path_is_asked_for(tmp_path):
    for bad in (None, 3, '', 'a\0b', ['a']):
        for f,name in ((find_unpaired,'path'), (image_files,'folder'), (lambda o: two_folders(o, tmp_path),'a'), (lambda o: two_folders(tmp_path, o),'b')):
            with pytest.raises(ValueError, match=f'`{name}` must be the path'): f(bad)

def test_a_missing_file_is_just_that(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone.jpg'): open_image(tmp_path/'gone.jpg')

@pytest.mark.parametrize('name', ignored)
def test_no_image_by_its_name(tmp_path, name):
    fn = put(domains(tmp_path)/'A'/name, ignored[name])
    assert image_files(tmp_path/'A')==sorted((tmp_path/'A').glob('0*.png'))
    assert len(UnpairedDataLoaders.from_folder(tmp_path, size=24, valid_pct=0).train_ds)==5
    found = verify_unpaired(tmp_path)
    if fn.parent.name=='A':
        assert found[['file','problem']].values.tolist()==[[fn,'skipped']]
        assert (found.detail[0]=='hidden')==name.startswith('.')
    else: assert len(found)==0

@pytest.mark.parametrize('at', [.3, .6, .9])
def test_spoilt_jpeg(tmp_path, at):
    "JPEG has no checksum: what is read is a picture of the right size, sound above the spoilt place; fast look and full agree"
    fn = put(domains(tmp_path)/'A'/'spoilt.jpg', spoilt(noise, at))
    whole, found = Image.open(BytesIO(noise)), open_image(fn)
    assert found.size==(64,64) and not np.array_equal(np.asarray(found), np.asarray(whole))
    n = int(64*(at-.25)//16*16)
    assert np.array_equal(np.asarray(found)[:n], np.asarray(whole)[:n])
    assert inspect_images([fn], draft=8)[0][1]==''

@pytest.mark.parametrize('format', ['PNG','WEBP','TIFF','JPEG'])
@pytest.mark.parametrize('orientation', range(1,9))
def test_exif_orientation(tmp_path, orientation, format):
    "Stored as EXIF 2.3 says: where the first row and the first column of what is stored lie in the upright picture"
    up = quarters(48, 32)
    turned = up.transpose(1,0,2)
    stored = [up, up[:,::-1], up[::-1,::-1], up[::-1],                           # top left, top right, bottom right, bottom left
              turned, turned[::-1], turned[::-1,::-1], turned[:,::-1]][orientation-1] # left top, right top, right bottom, left bottom
    exif = Image.Exif()
    exif[274] = orientation
    fn = put(tmp_path/f'x.{format.lower()}', saved(Image.fromarray(stored), format, exif=exif,
             **{'WEBP': dict(lossless=True), 'JPEG': dict(quality=95, subsampling=0)}.get(format, {})))
    im = open_image(fn)
    assert im.size==(48,32)
    if format=='JPEG': sees(im, corners)
    else: assert np.array_equal(np.asarray(im), up)
    assert open_image(fn, draft=8).size in ((48,32),(24,16),(12,8)) and load_images([fn], 24).shape==(1,3,24,24)

@pytest.mark.parametrize('method', ['squish','crop','pad'])
@pytest.mark.parametrize('size', [(1,1), (1,50), (300,1), (5,3)])
def test_tiny_and_thin(method, size):
    "At 98 and at 196 a cut of one pixel is rounded to none"
    for n in (24, 98, 196):
        for split_idx in (0,1):
            im = ResizeTo(n, n, method)(data.PILImage(Image.new('RGB', size, red)), split_idx=split_idx)
            assert im.size==(n,n) and im.getcolors()==[(n*n, red)]

def test_resize_methods():
    wide = data.PILImage(Image.fromarray(quarters(96, 32)))
    squish, crop, pad = (np.asarray(ResizeTo(32, 32, o)(wide, split_idx=0)) for o in ('squish','crop','pad'))
    for x in (squish, crop): sees(Image.fromarray(x), corners)
    assert np.array_equal(crop, np.asarray(wide)[:,32:64])                       # the middle, in training too
    sees(Image.fromarray(pad), [blue, white, red, green])                        # reflected: above the top lies what is below it
    sees(Image.fromarray(pad[11:21]), corners)

# Several pictures in a file

def tiff_of(fn, *kinds):
    "A TIFF with a picture of each kind: 0 is a page, 1 a smaller copy, 4 a mask"
    with TiffImagePlugin.AppendingTiffWriter(fn, True) as f:
        for i,o in enumerate(kinds):
            Image.new('L', (32,32), 10*i).save(f, 'TIFF', tiffinfo={254: o})
            f.newFrame()
    return fn

several = {'three pages.tif': 3, 'moving.gif': 2, 'moving.webp': 2, 'moving.png': 2}
single = ['two pictures in one.jpg', 'a page and its smaller copies.tif', 'plain.gif', 'plain.jpg', 'bomb.png', 'gone.tif']
def several_in(folder):
    tiff_of(folder/'three pages.tif', 0, 0, 0); tiff_of(folder/'a page and its smaller copies.tif', 0, 1, 1, 4)
    for name in ('moving.gif','moving.webp','moving.png'): put(folder/name, saved(photo, name[7:], **frames()))
    for name in single:
        if name in good: put(folder/name, good[name][0])

def text(n): return f'{n} pages or frames, of which the first is read'

def test_pages_are_counted(tmp_path):
    several_in(tmp_path); put(tmp_path/'bomb.png', bomb())
    pages = {o: left_out(tmp_path/o).get('pages') for o in [*several, *single]}
    assert pages=={**{k: text(n) for k,n in several.items()}, **dict.fromkeys(single)}

def test_pages_that_are_not_used_are_named(tmp_path):
    several_in(domains(tmp_path)/'A')
    with pytest.warns(UserWarning) as w: UnpairedDataLoaders.from_folder(tmp_path, size=24, valid_pct=0)
    said, = (str(o.message) for o in w if 'pages or frames' in str(o.message))
    for name,n in several.items(): assert f'{tmp_path/"A"/name}` (' in said and text(n) in said
    assert said.count('`')==2*len(several)
    found = verify_unpaired(tmp_path)
    assert {f.name: d for f,d in found[found.problem=='pages'][['file','detail']].values}=={
        k: text(n) for k,n in several.items()}
    with pytest.warns(UserWarning, match='three pages.tif` holds 3 pages or frames, of which the first'): as_photo(tmp_path/'A'/'three pages.tif')

# Where the images are

def counts(files): return [len(o) for o in (files.train_a, files.train_b, files.valid_a, files.valid_b)]

def test_official_layout(tmp_path):
    domains(tmp_path, 3, 2, 'trainA', 'trainB', testA=2, testB=1, valA=2, truthA=1)
    with pytest.warns(UserWarning, match='valA`'): files = find_unpaired(tmp_path, valid_pct=.5)
    assert files.unused==image_files(tmp_path/'valA')
    assert counts(files)==[3,2,2,1] and files.domains==('A','B')
    assert [f.relative_to(tmp_path).as_posix() for *_,f in files] == ['trainA/00.png','trainA/01.png','trainA/02.png',
        'trainB/00.png','trainB/01.png', 'testA/00.png','testA/01.png', 'testB/00.png']
    assert [(s,k) for s,k,_ in files]==[('train','A')]*3+[('train','B')]*2+[('valid','A')]*2+[('valid','B')]
    with pytest.warns(UserWarning): assert find_unpaired(str(tmp_path))==files

@pytest.mark.parametrize('layout', ['{split}/{domain}', '{domain}/{split}', '{split}/{domain}/2024', '{domain}/photos/{split}'])
@pytest.mark.parametrize('train,held', [('train','test'), ('Train','valid'), ('training','val'), ('','TEST')])
@pytest.mark.parametrize('a,b', [('horse','zebra'), ('A','B')])
def test_splits_are_no_domains(tmp_path, layout, train, held, a, b):
    fill = lambda split, domain: layout.format(split=split, domain=domain).strip('/')
    for i,d in enumerate((a,b)):
        for split,n in ((train,3),(held,2)):
            for j in range(n): put(tmp_path/fill(split, d)/f'{split}{j}.png', (90*i+10*j,)*3)
    files = find_unpaired(tmp_path, .5)
    assert files.domains==(a,b) and counts(files)==[3,3,2,2] and files.unused==[]
    for split,k,f in files:
        assert f.relative_to(tmp_path).parent.as_posix()==fill(train if split=='train' else held, dict(A=a, B=b)[k])

@pytest.mark.parametrize('held', ['test','val','valid','validation','TestX','val_X','Valid X'])
def test_held_out_images_are_not_trained_on(tmp_path, held):
    held_a,held_b = (held.replace('X', k) if 'X' in held else held+k for k in 'AB')
    domains(tmp_path, 5, 6, 'trainA', 'train_B', **{held_a: 2, held_b: 3})
    files = find_unpaired(tmp_path, .5)
    assert counts(files)==[5,6,2,3] and {f.parent.name for s,_,f in files if s=='valid'}=={held_a,held_b}

def test_splits_in_two_folders(tmp_path):
    for d,n in (('horse',10),('zebra',20)): domains(tmp_path/'set'/d, n, 2, 'train', 'test')
    h,z = tmp_path/'set'/'horse',tmp_path/'set'/'zebra'
    files = two_folders(h, z)
    assert files.domains==('horse','zebra') and counts(files)==[10,20,2,2]
    files = two_folders(h/'train', z/'train')
    assert files.domains==('horse','zebra') and counts(files)==[9,18,1,2]
    own = image_files(z/'test')
    with pytest.warns(UserWarning, match='horse/test'): files = two_folders(h, z, tests=(own, own))
    assert files.valid_a==files.valid_b==own and files.unused==image_files(h/'test')
    with pytest.raises(ValueError, match='two splits of one set'): two_folders(h/'train', h/'test')

def test_what_is_left_over_is_named(tmp_path):
    domains(tmp_path, 3, 3, samples=2)
    put(tmp_path/'loose.png', red)
    for name in ('A/notes.txt', 'B/below/x.cr2', 'settings.json'): put(tmp_path/name, b'text')
    with pytest.warns(UserWarning) as w: files = find_unpaired(tmp_path, 0)
    unused, other = (str(o.message) for o in w)
    assert f'1 in `{tmp_path}`' in unused and f'2 in `{tmp_path/"samples"}`' in unused
    assert 'endings: 2 (' in other and 'notes.txt' in other and 'x.cr2' in other and 'settings.json' not in other
    found = verify_unpaired(files)
    assert found[found.problem=='unused'].file.tolist()==[tmp_path, tmp_path/'samples'] and '2 images' in found.detail.tolist()[1]

def test_official_layout_without_test_or_with_one_test_folder(tmp_path):
    domains(tmp_path/'none', 10, 20, 'trainA', 'trainB')
    files = find_unpaired(tmp_path/'none')
    assert counts(files)==[9,18,1,2] and files.domains==('A','B')
    domains(tmp_path/'one', 10, 20, 'trainA', 'trainB', testA=3)
    (tmp_path/'one'/'testB').mkdir()
    files = find_unpaired(tmp_path/'one')
    assert counts(files)==[10,18,3,2]
    assert {o.parent.name for o in files.valid_a}=={'testA'}

@pytest.mark.parametrize('names', [('A','B'), ('summer','winter'), ('été à la mer','冬: 雪')])
def test_two_folders_in_one(tmp_path, names):
    domains(tmp_path, a=names[0], b=names[1])
    (tmp_path/'empty').mkdir()
    put(tmp_path/'.cache'/'x.jpg', jpeg)
    put(tmp_path/'models'/'first.pth', b'weights')
    files = find_unpaired(tmp_path)
    assert files.domains==names and len(list(files))==5 and {o.parent.name for _,k,o in files if k=='B'}=={names[1]}
    dls = UnpairedDataLoaders.from_folder(tmp_path, size=24)
    assert dls.domains==names and dls.path==tmp_path

def test_a_and_b_beside_other_folders(tmp_path):
    with pytest.warns(UserWarning, match='2 in `.*samples`'): assert find_unpaired(domains(tmp_path, samples=2)).domains==('A','B')

def test_two_folders_anywhere(tmp_path):
    domains(tmp_path/'x', a='photos', b='other'); domains(tmp_path/'y', 4, 5, a='photos', b='snow')
    dls = UnpairedDataLoaders.from_folders(str(tmp_path/'x'/'photos'), tmp_path/'y'/'snow', size=24)
    assert dls.domains==('photos','snow') and (len(dls.train.idxs_a), len(dls.train.idxs_b))==(2,4)
    assert two_folders(tmp_path/'x'/'photos', tmp_path/'y'/'photos').domains==('A','B')  # no two names

def test_relative_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(domains(tmp_path, a='summer', b='winter')/'summer')
    files = two_folders('.', '../winter')
    assert files.domains==('summer','winter') and not any(f.is_absolute() for *_,f in files)

def test_the_split_is_seeded(tmp_path):
    domains(tmp_path, 12, 20)
    split = lambda seed: find_unpaired(tmp_path, valid_pct=.25, seed=seed)
    files = split(1)
    assert files==split(1) and (len(files.valid_a), len(files.valid_b))==(3,5)
    for train,valid,name in ((files.train_a, files.valid_a, 'A'), (files.train_b, files.valid_b, 'B')):
        assert sorted(train+valid)==image_files(tmp_path/name) and not set(train) & set(valid)
        assert train==sorted(train) and valid==sorted(valid)
    assert len({tuple(split(i).valid_b) for i in range(8)})>6
    random.seed(0); before = random.getstate(); split(1)
    assert random.getstate()==before
    assert find_unpaired(tmp_path, valid_pct=0).valid_a==[] and len(find_unpaired(tmp_path, valid_pct=.999).train_a)==1

def test_the_split_stays(tmp_path):
    "A photograph more or less moves one other at most; so does a count that grows"
    folder, names = domains(tmp_path, 40)/'A', lambda files: {f.name for f in files}
    def split(): files = two_folders(folder, tmp_path/'B', valid_pct=.2, seed=3); return names(files.train_a), names(files.valid_a)
    rng, moved = random.Random(0), []
    train, valid = split()
    for i in range(60):
        if i%2 or rng.random()<.5: put(folder/f'new {rng.random()}.png', red)
        else: rng.choice(image_files(folder)).unlink()
        before, (train, valid) = (train, valid), split()
        moved.append(len(before[0] & valid) + len(before[1] & train))
        assert len(valid)==round(.2*len(train | valid)) and not train & valid
    assert max(moved)==1 and sum(moved)<30

def test_the_split_is_the_same_everywhere(tmp_path):
    "By names alone: wherever the folder is, whatever the system, accents in one piece or in two, and in any encoding"
    names = [f'{i:02d}.png' for i in range(9)] + ['a folder/é.png']
    odd = os.fsdecode(b'\xff.png')
    for k,made in dict(here=names, there=[unicodedata.normalize('NFD', o) for o in names]).items():
        for o in [*made, odd]: put(tmp_path/k/o, red)
    put(tmp_path/'B'/'x.png', red)
    kept = lambda folder, seed: sorted(unicodedata.normalize('NFC', f.relative_to(folder).as_posix())
                                       for f in two_folders(folder, tmp_path/'B', .4, seed).valid_a)
    chosen = [kept(tmp_path/'here', seed) for seed in range(20)]
    assert chosen==[kept(tmp_path/'there', seed) for seed in range(20)] and chosen[0]==['03.png','04.png','05.png','08.png']
    assert {o for c in chosen for o in c}=={*names, odd}
    kept = lambda folder: [f.relative_to(folder).as_posix() for f in files_module._split({folder/o: files_module._place((folder/o).relative_to(folder).parts, 'A')[2] for o in names}, .4, 42)[1]]
    assert sorted(kept(PureWindowsPath('C:/photos')))==sorted(kept(PurePosixPath('/photos')))

def test_damaged_files_do_not_move_the_split(tmp_path):
    domains(tmp_path, 20, 20)
    files = find_unpaired(tmp_path, valid_pct=.3)
    bad = {put(o, b'spoilt') for o in (files.train_a[2], files.train_a[9], files.valid_a[1], files.valid_b[0])}
    with pytest.warns(UserWarning, match='4 damaged'): dls = UnpairedDataLoaders.from_folder(tmp_path, valid_pct=.3, damaged='skip', **plainly)
    for dl,found in zip(dls.loaders, (files.train_a+files.train_b, files.valid_a+files.valid_b)):
        assert [f for f,_ in dl.dataset.items]==[f for f in found if f not in bad]

@pytest.mark.skipif('HEIF' in image_kinds(), reason='pillow-heif is installed')
def test_heic_without_a_decoder(tmp_path):
    "A photograph like any other that can't be opened: named before training, with what to install"
    domains(tmp_path, 3, 3, 'phone', 'camera')
    heic = [put(tmp_path/'phone'/f'IMG_{i}.{o}', b'\0\0\0\x1cftyp'+brand+b'...') for i,(o,brand) in
            enumerate((('HEIC',b'heic'), ('heif',b'mif1'), ('jpg',b'heic')))]
    for f in (find_unpaired, lambda path: two_folders(path/'phone', path/'camera')): assert {*heic} < {o for *_,o in f(tmp_path)}
    for fn in heic:
        with pytest.raises(DamagedImage, match=f'{fn.name}` .*its format is HEIC.*`pip install pillow-heif`, or export it as JPEG'): open_image(fn)
    with pytest.raises(DamagedImage) as e: UnpairedDataLoaders.from_folder(tmp_path, size=24)
    assert all(f'{fn}` can' in str(e.value) for fn in heic)
    with pytest.warns(UserWarning, match='3 damaged files are skipped.*IMG_0.HEIC'):
        UnpairedDataLoaders.from_folder(tmp_path, size=24, damaged='skip', valid_pct=0)
    found = verify_unpaired(tmp_path)
    assert found.problem.tolist()==['damaged']*3 and all('pip install pillow-heif' in o for o in found.detail)

def test_a_domain_with_one_image(tmp_path):
    domains(tmp_path, 1, 5)
    files = find_unpaired(tmp_path)
    assert files.train_a==files.valid_a==[tmp_path/'A'/'00.png'] and len(files.train_b)==4
    dls = UnpairedDataLoaders.from_folder(tmp_path, **plainly)
    assert [a for a,_ in greys(dls.train)]==[10]*4 and len(dls.valid)==1
    assert len(UnpairedDataLoaders.from_folder(tmp_path, valid_pct=0, **plainly).train)==5

def test_no_validation(tmp_path):
    dls = UnpairedDataLoaders.from_folder(domains(tmp_path), valid_pct=0, **plainly)
    assert (len(dls.train), len(dls.valid), list(dls.valid))==(3,0,[])

def test_layouts_that_are_not_understood(tmp_path):
    for name,kwargs,error,message in [
        ('lonely', dict(a='trainA', b='testA'), ValueError, r'found A \(3 train, 2 test\)'),
        ('three', dict(a='x', b='y', z=1), ValueError, r'from_folders.*found x \(3 train\), y \(2 train\), z \(1 train\)'),
        ('empty', dict(a='A', b='B', n_b=0), ValueError, r'found A \(3 train\)'),
        ('bare', dict(a='trainA', b='trainB', n_a=0), ValueError, r'found B \(2 train\)'),
        ('half', dict(a='summer', b='winter', n_b=0), ValueError, 'no layout that is understood.*found summer'),
        ('nothing', dict(n_a=0, n_b=0, a='x', b='y'), ValueError, 'found no images'),
        ('pairs', dict(a='train', b='val'), ValueError, r'found of no domain \(3 train, 2 val\).*pairs side by side')]:
        domains(tmp_path/name, **kwargs)
        for f in (find_unpaired, UnpairedDataLoaders.from_folder, verify_unpaired):
            with pytest.raises(error, match=message) as e: f(tmp_path/name)
            assert name in str(e.value) or 'domain' in message
    with pytest.raises(NotADirectoryError, match='nowhere` is not a folder'): find_unpaired(tmp_path/'nowhere')
    with pytest.raises(NotADirectoryError, match='photo.png` is not a folder'): find_unpaired(put(tmp_path/'photo.png', red))

def test_two_folders_that_are_one(tmp_path):
    a = domains(tmp_path)/'A'
    (tmp_path/'link').symlink_to(a)
    for b in (a, tmp_path/'link', tmp_path, a/'..'/'A'):
        with pytest.raises(ValueError, match='neither inside the other'): two_folders(a, b)
        with pytest.raises(ValueError, match='neither inside the other'): UnpairedDataLoaders.from_folders(b, a)
    with pytest.raises(NotADirectoryError, match='gone` is not a folder'): UnpairedDataLoaders.from_folders(a, tmp_path/'gone')

# What an epoch shows

@pytest.mark.parametrize('n_a,n_b', [(7,3), (3,7), (5,5), (1,4)])
def test_an_epoch(tmp_path, n_a, n_b):
    "The larger domain once, the smaller drawn anew; of equal ones A once"
    dls = UnpairedDataLoaders.from_folder(domains(tmp_path, n_a, n_b), valid_pct=0, **plainly)
    all_a, all_b = [10+10*i for i in range(n_a)], [130+10*i for i in range(n_b)]
    epochs = [greys(dls.train) for _ in range(40)]
    k, once, again = (1,all_b,all_a) if n_b>n_a else (0,all_a,all_b)
    for e in epochs: assert sorted(o[k] for o in e)==once
    assert len({tuple(o[k] for o in e) for e in epochs})>=min(20, n_b*n_b), 'in another order each epoch'
    drawn = [o[1-k] for e in epochs for o in e]
    counts = [drawn.count(o) for o in again]
    assert sum(counts)==len(drawn) and min(counts)>.6*len(drawn)/len(again), 'each of them, and about as often'
    if len(again)>1:
        assert len({tuple(o[1-k] for o in e) for e in epochs})>20
        assert any(len({o[1-k] for o in e})<min(len(again), len(e)) for e in epochs), 'drawn with replacement'
        pairs = {o for e in epochs for o in e}
        assert len(pairs)>.9*len(once)*len(again), 'any with any'

def test_batches_and_the_last_one(tmp_path):
    dls = UnpairedDataLoaders.from_folder(domains(tmp_path, 7, 3, 'trainA', 'trainB', testA=5, testB=2), **plainly|dict(bs=2))
    assert [len(a) for a,_ in dls.train]==[2,2,2] and len(dls.train)==3          # fastai drops the remainder in training
    assert [len(b) for _,b in dls.valid]==[2,2,1]

def test_validation_is_the_same_every_time(tmp_path):
    domains(tmp_path, 3, 3, 'trainA', 'trainB', testA=5, testB=2)
    dls = UnpairedDataLoaders.from_folder(tmp_path, size=24, bs=2)               # with its augmentation
    first, again = ([torch.cat(o) for o in zip(*dls.valid)] for _ in range(2))
    for a,b in zip(first, again): assert torch.equal(a, b)
    x_a, x_b = (load_images(image_files(tmp_path/o), 24) for o in ('testA','testB'))
    assert torch.allclose(first[0], x_a, atol=1e-6) and torch.allclose(first[1], x_b[[0,1,0,1,0]], atol=1e-6)

def two_epochs(path, seed, **kwargs):
    for f in (random.seed, np.random.seed, torch.manual_seed): f(seed)
    dls = UnpairedDataLoaders.from_folder(path, size=24, bs=2, **kwargs)
    return [o for _ in range(2) for dl in dls.loaders for b in dl for o in b]

def test_workers_and_seeds(tmp_path):
    "The same batches, augmentation and all, whoever decodes"
    domains(tmp_path, 6, 4)
    for fn in tmp_path.glob('*/*.png'): put(fn, noise)
    none, two, other = two_epochs(tmp_path, 3), two_epochs(tmp_path, 3, num_workers=2), two_epochs(tmp_path, 4)
    same = lambda x,y: len(x)==len(y) and all(torch.equal(a, b) for a,b in zip(x, y))
    assert same(none, two) and not same(none, other)

def test_pairs_are_drawn_by_the_loader(tmp_path):
    "By its own generator, so that a saved state is enough to go on"
    train = UnpairedDataLoaders.from_folder(domains(tmp_path, 7, 5), valid_pct=0, **plainly).train
    state = train.rng.getstate()
    first = greys(train)
    random.seed(1); train.rng.setstate(state)
    assert greys(train)==first!=greys(train)

def test_new_empty_and_pickle(tmp_path):
    dls = UnpairedDataLoaders.from_folder(domains(tmp_path), size=24, load=28, bs=2, domains=('summer','winter'))
    for o in (dls.new_empty(), pickle.loads(cloudpickle.dumps(dls.new_empty()))):
        assert type(o.train) is UnpairedDL
        assert (len(o.train), o.size, o.domains, o.n_inp)==(0, 24, ('summer','winter'), 2)
    whole = pickle.loads(cloudpickle.dumps(dls))
    assert [len(b) for b in whole.train.one_batch()]==[2,2]

class Swap(nn.Module):
    def __init__(self): super().__init__(); self.w = nn.Parameter(torch.ones(1))
    def forward(self, a, b): return b*self.w, a*self.w

def test_a_learner_exports(tmp_path):
    dls = UnpairedDataLoaders.from_folder(domains(tmp_path), size=24, bs=2)
    learn = Learner(dls, Swap(), loss_func=nn.L1Loss())
    a,b = dls.one_batch()
    learn.export(tmp_path/'swap.pkl')
    again = load_learner(tmp_path/'swap.pkl')
    assert again.dls.size==24 and again.dls.domains==('A','B') and torch.equal(again.model(a, b)[0], b)

# The data block

def test_block_with_a_splitter_and_getters_of_ones_own(tmp_path):
    domains(tmp_path, 5, 3, 'warm', 'cold')
    block = DataBlock(UnpairedBlock(size=24), get_items=get_image_files, splitter=FuncSplitter(lambda o: o.stem=='00'))
    dls = block.dataloaders(tmp_path, bs=1, num_workers=0)
    assert dls.domains==('cold','warm')                                          # by name, unless told otherwise
    assert (len(dls.train), len(dls.valid), dls.size)==(4, 1, 24)
    dls = DataBlock(UnpairedBlock(domains=('warm','cold'), size=24, load=24, aug_tfms=[]), get_items=get_image_files,
                    splitter=RandomSplitter(.5, seed=2)).dataloaders(tmp_path, bs=1, num_workers=0)
    assert all(a<100<b for a,b in greys(dls.train)+greys(dls.valid))

@pytest.mark.parametrize('domain_func', [ColReader('season'), lambda row: row['season'], lambda row: row.season])
def test_block_with_a_data_frame(tmp_path, domain_func):
    domains(tmp_path, 4, 3)
    season = dict(A='summer', B='winter')
    df = pd.DataFrame([dict(name=f'{o.parent.name}/{o.name}', season=season[o.parent.name], is_valid=o.stem=='01')
                       for o in image_files(tmp_path)], index=range(100, 107))
    block = DataBlock(UnpairedBlock(domain_func, size=24, load=24, aug_tfms=[]), get_x=ColReader('name', pref=tmp_path),
                      splitter=ColSplitter())
    dls = block.dataloaders(df, bs=1, num_workers=0)
    assert dls.domains==('summer','winter')
    assert sorted(a for a,_ in greys(dls.train))==[10,30,40] and greys(dls.valid)==[(20,140)]

def test_block_says_what_is_wrong(tmp_path):
    def loaders(path, splitter=RandomSplitter(.3, seed=2)):
        block = DataBlock(UnpairedBlock(size=24), get_items=get_image_files, splitter=splitter)
        return block.dataloaders(path, bs=1, num_workers=0)
    with pytest.raises(ValueError, match=r"two domains apart, got \['A', 'B', 'C'\]: pass `domains="):
        loaders(domains(tmp_path/'x', 3, 3, C=3))
    split = FuncSplitter(lambda o: o.parent.name=='A' and o.stem!='00')         # one of A to train on, only A to validate on
    with pytest.raises(ValueError, match='2 images of A and 0 of B: each needs one'): loaders(domains(tmp_path/'y'), split)

def test_block_without_validation(tmp_path):
    block = DataBlock(UnpairedBlock(size=24), get_items=get_image_files, splitter=FuncSplitter(lambda o: False))
    dls = block.dataloaders(domains(tmp_path), bs=1, num_workers=0)
    assert (len(dls.train), len(dls.valid), dls.valid.domains)==(3, 0, ('A','B'))

# Augmentation

def coordinates(n=8, size=72):
    "Images whose red says the column and green the row"
    y,x = torch.meshgrid(torch.arange(size)/255, torch.arange(size)/255, indexing='ij')
    return TensorImage(torch.stack([x,y,x*0]).expand(n,3,size,size).clone())

def test_crop_is_a_window_at_random():
    x = coordinates(600)
    y = CropBatch(64)(x, split_idx=0)
    assert type(y) is TensorImage and y.shape==(600,3,64,64)
    place = (y[:,:2,0,0]*255).round().int()                                     # (600, 2): column and row of the upper left
    for i in range(0,600,50):
        c,r = place[i].tolist()
        assert torch.equal(y[i], x[i,:,r:r+64,c:c+64])
    for k in range(2): assert sorted(set(place[:,k].tolist()))==list(range(9)), 'every place, the outermost too'
    assert abs(np.corrcoef(place.T)[0,1])<.2, 'row and column for themselves'
    assert torch.equal(CropBatch(72)(x, split_idx=0), x)

def halves(tfms, n=400):
    x = coordinates(n, 32)*255/31
    return x, AugmentEach(tfms)((x, x.clone()), split_idx=0)

def test_each_image_draws_for_itself():
    x,(a,b) = halves(unpaired_tfms(flip=True, max_rotate=0, max_zoom=1, max_lighting=0))
    flipped = [(o[:,0,0,0]>o[:,0,0,-1]).numpy() for o in (a,b)]
    counts = [int(((flipped[0]==i) & (flipped[1]==j)).sum()) for i in (0,1) for j in (0,1)]
    assert all(60<o<140 for o in counts), f'all four, a quarter each: {counts}'
    for o,f in zip((a,b), flipped): assert torch.allclose(o[torch.tensor(~f)], x[torch.tensor(~f)], atol=1e-3)

@pytest.mark.parametrize('kwargs,share', [
    (dict(max_zoom=1, max_lighting=0), .25), (dict(max_rotate=0, max_lighting=0), .25), (dict(max_zoom=1, max_lighting=0, p=.4), .6),
    (dict(max_rotate=0, max_zoom=1), .25**2), (dict(), .25**4), (dict(p=0), 1), (dict(max_rotate=0, max_zoom=1, max_lighting=0), 1)])
def test_each_with_its_probability(kwargs, share):
    "Rotation, zoom, brightness and contrast, each of them with `p`: that share of the images stays as it was"
    x,(a,b) = halves(unpaired_tfms(flip=False, **kwargs))
    same = torch.cat([(o-x).abs().amax((1,2,3))<2e-3 for o in (a,b)]).float().mean()
    assert abs(same-share)<.06

def test_augmentation_can_be_switched_off(tmp_path):
    domains(tmp_path, 4, 4)
    for i,fn in enumerate(image_files(tmp_path)):
        put(fn, Image.fromarray(quarters(40, 56, [(20*i+o,)*3 for o in (0,30,60,90)])))
    plain = {o: load_images([o], 24)[0] for o in tmp_path.glob('*/*.png')}
    def differences(**kwargs):
        dls = UnpairedDataLoaders.from_folder(tmp_path, valid_pct=0, size=24, bs=1, **kwargs)
        return [min((x[0]-o).abs().max().item() for o in plain.values()) for b in dls.train for x in b]
    assert max(differences(load=24, aug_tfms=[]))<1e-5
    assert min(differences(load=24, aug_tfms=[]))<1e-5<.02<max(differences(aug_tfms=[]))   # `load` alone cuts
    assert max(differences(load=24))>.02 and max(differences(load=24, aug_tfms=unpaired_tfms(max_lighting=0)))>.02

def test_augmented_images_are_like_plain_ones(tmp_path):
    "In mean and in spread; and never outside [-1, 1]"
    domains(tmp_path, 8, 8)
    rng = np.random.default_rng(1)
    for fn in image_files(tmp_path):
        put(fn, Image.fromarray(rng.integers(20, 236, (6,6,3), dtype=np.uint8)).resize((64,64), Image.BICUBIC))
    dls = UnpairedDataLoaders.from_folder(tmp_path, valid_pct=0, size=48, bs=8)
    x = torch.cat([torch.cat(b) for _ in range(12) for b in dls.train])
    plain = load_images(image_files(tmp_path), 48)
    assert -1<=x.min() and x.max()<=1
    assert (x.mean((0,2,3))-plain.mean((0,2,3))).abs().max()<.06
    assert (x.std((0,2,3))/plain.std((0,2,3))-1).abs().max()<.12

# Looking at it

def test_show_batch_draws_a_over_b(tmp_path):
    dls = UnpairedDataLoaders.from_folder(domains(tmp_path, 5, 4), valid_pct=0, domains=('summer','winter'), **plainly|dict(bs=4))
    plt.close('all')
    b = dls.one_batch()
    dls.show_batch(b, max_n=3, title='seasons')
    axs = plt.gcf().axes
    assert len(axs)==6 and [o.get_ylabel() for o in axs]==['summer','','','winter','',''] and plt.gcf().get_suptitle()=='seasons'
    top, bottom = axs[0].get_position(), axs[3].get_position()
    assert top.y0>bottom.y1-1e-6 and abs(top.x0-bottom.x0)<1e-6
    for i,ax in enumerate(axs):
        shown = ax.images[0].get_array()
        assert shown.shape==(24,24,3) and np.allclose(shown, (b[i//3][i%3].permute(1,2,0)+1)/2, atol=1e-5)
    plt.close('all')
    dls.show_batch()
    assert len(plt.gcf().axes)==8                                               # a batch of four
    plt.close('all')

# Mistakes

@pytest.mark.parametrize('kwargs,message', [
    (dict(size=65), '`size` must be a multiple of 4 and at least 24.*got 65'), (dict(size=20), 'at least 24.*got 20'),
    (dict(size=64, load=60), r'`load` must be at least `size` \(64\), got 60'),
    (dict(bs=0), '`bs` must be a whole number ≥ 1, got 0'), (dict(bs=4), '`bs` must be between 1 and the 3 pairs.*got 4'),
    (dict(method='squash'), "`method` must be 'squish', 'crop' or 'pad', got 'squash'"),
    (dict(damaged='ignore'), "`damaged` must be 'error' or 'skip', got 'ignore'"),
    (dict(valid_pct=1), r'`valid_pct` must be a number in \[0, 1\), got 1'), (dict(valid_pct=-.1), 'got -0.1'),
    (dict(domains=('x','x')), '`domains` must be two different names'), (dict(domains=('x',)), '`domains` must be two')])
def test_mistakes_are_reported_before_any_work(tmp_path, monkeypatch, kwargs, message):
    domains(tmp_path)
    monkeypatch.setattr(data, 'inspect_images', lambda *args, **kwargs: pytest.fail('images were opened'))
    for f in (UnpairedDataLoaders.from_folder, lambda o, **kwargs: UnpairedDataLoaders.from_folders(o/'A', o/'B', **kwargs)):
        with pytest.raises(ValueError, match=message): f(tmp_path, **dict(valid_pct=0)|kwargs)

def test_an_argument_that_is_not_known(tmp_path, monkeypatch):
    monkeypatch.setattr(data, 'inspect_images', lambda *args, **kwargs: pytest.fail('images were opened'))
    with pytest.raises(TypeError, match='sise'): UnpairedDataLoaders.from_folder(domains(tmp_path), sise=24)

def test_what_is_left_after_skipping(tmp_path):
    domains(tmp_path, 2, 2)
    for i in range(2): put(tmp_path/'A'/f'0{i}.png', b'')
    with pytest.warns(UserWarning, match='2 damaged'), pytest.raises(ValueError, match='domain A'):
        UnpairedDataLoaders.from_folder(tmp_path, size=24, valid_pct=0, damaged='skip')
    put(tmp_path/'B'/'00.png', b''); put(tmp_path/'A'/'00.png', red)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match='the 1 pairs'):
        UnpairedDataLoaders.from_folder(tmp_path, size=24, bs=2, valid_pct=0, damaged='skip')

def test_many_damaged_files_are_one_error(tmp_path):
    domains(tmp_path, 9, 2)
    for i in range(8): put(tmp_path/'A'/f'0{i}.png', b'')
    with pytest.raises(DamagedImage) as e: UnpairedDataLoaders.from_folder(tmp_path, size=24)
    lines = str(e.value).splitlines()
    assert len(lines)==7 and lines[5]=='and 3 more' and lines[6]=="To leave damaged files out, pass `damaged='skip'`"

# The scan

def test_bars_are_for_those_who_watch(tmp_path, capsys, monkeypatch):
    fns = [put(tmp_path/f'{i}.png', png) for i in range(501)]
    assert len({o for o,*_ in inspect_images(fns)})==1 and capsys.readouterr().out==''
    monkeypatch.setattr('sys.stdout.isatty', lambda: True)
    inspect_images(fns)
    assert '501/501' in capsys.readouterr().out

def test_scan_finds_each_kind(tmp_path):
    domains(tmp_path, 3, 2, 'trainA', 'trainB', testA=2, testB=2)                # the two test folders are the same two greys
    shutil.copy(tmp_path/'trainA'/'00.png', tmp_path/'trainA'/'twice in one place.png')
    put(tmp_path/'testA'/'again.bmp', saved(Image.open(tmp_path/'trainA'/'01.png'), 'BMP'))  # the same pixels in another file
    put(tmp_path/'testA'/'other size.png', Image.new('RGB', (16,64), (20,)*3))
    put(tmp_path/'trainB'/'cut.jpg', damaged['cut short.jpg'])
    put(tmp_path/'trainB'/'.DS_Store', b'mac')
    put(tmp_path/'testB'/'notes.txt', b'text')
    found = verify_unpaired(tmp_path)
    rows = [(f.relative_to(tmp_path).as_posix(), *o) for f,*o in found[['file','split','domain','problem']].values.tolist()]
    assert rows==[('trainB/cut.jpg','train','B','damaged'), ('testA/again.bmp','valid','A','duplicate'),
        ('testB/00.png','valid','B','duplicate'), ('testB/01.png','valid','B','duplicate'),
        ('testB/notes.txt','','','skipped'), ('trainB/.DS_Store','','','skipped')]
    assert found.detail[1]=='same pixels as trainA/01.png (train)' and found.detail[2]=='same pixels as testA/00.png (valid)'
    files = find_unpaired(tmp_path)
    assert verify_unpaired(files).equals(found)
    part = UnpairedFiles(files.train_a[:2], files.train_b[:1], files.valid_a[:1], [])
    assert verify_unpaired(part).problem.tolist()==['skipped']                   # a file that wasn't asked for is no finding

def test_scan_calls_folders_by_their_names(tmp_path):
    domains(tmp_path, 3, 1, 'holidays', 'skiing')
    shutil.copy(tmp_path/'holidays'/'00.png', tmp_path/'skiing'/'from a chat.png')
    found = verify_unpaired(find_unpaired(tmp_path, valid_pct=0))
    assert found[['domain','detail']].values.tolist()==[['skiing', 'same pixels as holidays/00.png (train)']]

def test_scan_of_a_clean_folder(tmp_path):
    found = verify_unpaired(domains(tmp_path))
    assert len(found)==0 and list(found.columns)==['file','split','domain','problem','detail']

def test_scan_of_yosemite(shared_data, tmp_path):
    "26 summer and 15 winter test images are in the training set too, 14 are in both training domains"
    archive = shared_data/'summer2winter_yosemite.zip'
    if not archive.exists(): pytest.skip('no Yosemite here')
    with zipfile.ZipFile(archive) as z: z.extractall(tmp_path)
    found = verify_unpaired(next(tmp_path.rglob('trainA')).parent)
    assert set(found.problem)=={'duplicate'}
    place = found.detail.str.extract(r'same pixels as (\w+)/')[0]
    assert found.groupby([found.split, found.domain, place]).size().to_dict() == {('train','B','trainA'): 14,
        ('valid','A','trainA'): 26, ('valid','A','trainB'): 1,
        ('valid','B','trainB'): 15, ('valid','B','trainA'): 1, ('valid','B','testA'): 2}
    shutil.rmtree(tmp_path)
