"What an image file says besides its pixels: what of it a translation keeps, what it must not keep, and where"
import base64, struct, subprocess, sys, warnings
from io import BytesIO

import numpy as np, pytest
from PIL import ExifTags, Image, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo
from cyclegan_fastai.core.metadata import *
from cyclegan_fastai.use.app import translations
from cyclegan_fastai.use.batch import *
from cyclegan_fastai.use.serverless import translate_body
from cyclegan_fastai.use.translator import Translator

class Engine:
    radius,device = 0,'cpu'
    def __call__(self, x): return x

same = Translator({'winter': Engine()}, ('summer','winter'))
DATE,GPS = '2024:05:01 10:00:00',{1: 'N', 2: (48.,12.,3.5), 3: 'E', 4: (16.,22.,0.5)}
KEYS = 1,1,0,2,1025,0,1,1,3072,0,1,32633                                         # pixels are areas; UTM zone 33 N
picture = Image.linear_gradient('L').resize((60,40)).convert('RGB')

def exif_of(orientation=1, thumbnail=b'', maker=b'', **tags):
    e = Image.Exif()
    e.update({274: orientation, 271: 'Camera', 306: DATE, 282: TiffImagePlugin.IFDRational(300), 283: TiffImagePlugin.IFDRational(200), 296: 2})
    e.update({int(k[1:]): v for k,v in tags.items()})
    e[34665] = {36867: DATE, 33434: TiffImagePlugin.IFDRational(1,200), 40962: 60, 40963: 40, **({37500: maker} if maker else {})}
    e[34853] = GPS
    data = bytearray(e.tobytes())
    if thumbnail:                                                                # a second directory, as cameras write it
        tiff,order = data[6:],'<' if data[6:8]==b'II' else '>'
        n, = struct.unpack_from(order+'H', tiff, 8)
        struct.pack_into(order+'L', data, 6+10+12*n, len(tiff))
        rows = [(259,3,1,6<<(0 if order=='<' else 16)), (513,4,1,len(tiff)+42), (514,4,1,len(thumbnail))]
        data += struct.pack(order+'H', 3)+b''.join(struct.pack(order+'HHLL', *o) for o in rows)+bytes(4)+thumbnail
    return bytes(data)

def translated(tmp_path, name, size=None, strip=False, expect='done'):
    [row] = translate_files(same, find_images([tmp_path/name], tmp_path/'out', 'winter'), size=size, strip=strip)
    assert row['status']==expect, row['problem']
    return Image.open(row['result'])

def tags(im):
    e = im.getexif()
    return {k: v for k,v in e.items() if k not in (34665,34853)},e.get_ifd(34665),e.get_ifd(34853)

@pytest.mark.parametrize('size', [None, 20])
@pytest.mark.parametrize('kind', ['jpg','png','webp'])
def test_dates_and_positions_stay(tmp_path, kind, size):
    picture.save(tmp_path/f'a.{kind}', exif=exif_of())
    main,exif,gps = tags(translated(tmp_path, f'a.{kind}', size))
    assert (main[306],main[271],exif[36867],exif[33434],gps)==(DATE,'Camera',DATE,.005,GPS)
    assert {40962,40963}.isdisjoint(exif) and main.get(274, 1)==1

@pytest.mark.parametrize('kind', ['jpg','png','webp'])
def test_orientation_is_made_true(tmp_path, kind):
    picture.save(tmp_path/f'a.{kind}', exif=exif_of(6))
    im = translated(tmp_path, f'a.{kind}')
    main,exif,gps = tags(im)
    assert im.size==(40,60) and 274 not in main and gps==GPS and exif[36867]==DATE

def test_no_picture_of_the_old_one_stays(tmp_path):
    small = BytesIO(); Image.new('RGB', (8,8), 'red').save(small, 'JPEG'); old = small.getvalue()
    xmp = b'<x xmp:Label="b" tiff:Orientation="6"><xmp:Thumbnails><rdf>/9j/4AAQ</rdf></xmp:Thumbnails><tiff:ImageWidth>60</tiff:ImageWidth></x>'
    data = exif_of(1, old, b'Maker\0'+old)
    picture.save(tmp_path/'a.jpg', exif=data, xmp=xmp)
    assert Image.open(tmp_path/'a.jpg').getexif().get_ifd(ExifTags.IFD.IFD1)[514]==len(old)
    im = translated(tmp_path, 'a.jpg')
    content = (tmp_path/'out'/'a_winter.jpg').read_bytes()
    assert content.count(b'\xff\xd8\xff')==1 and tags(im)[2]==GPS
    if 'xmp' in Image.open(tmp_path/'a.jpg').info: assert im.info['xmp']==b'<x xmp:Label="b"></x>' # old versions of Pillow don't read it

def test_texts_keep_their_letters(tmp_path):
    "Pillow alone makes a question mark of ü"
    name = 'J. Müller'.encode()
    picture.save(tmp_path/'a.jpg', exif=exif_of(_315=name))
    assert name in (tmp_path/'a.jpg').read_bytes()
    for kind in SAVING:
        save_photo(same(tmp_path/'a.jpg'), tmp_path/'b', kind)
        assert tags(Image.open(tmp_path/'b'))[0][315].encode('latin-1')==name
        save_photo(same(tmp_path/'b'), tmp_path/'c', kind)
        assert name in (tmp_path/'c').read_bytes()

def iptc_jpeg(path, caption, **kwargs):
    block = b'Photoshop 3.0\x008BIM'+struct.pack('>HHL', 1028, 0, len(caption))+caption+bytes(len(caption)%2)
    picture.save(path, extra=struct.pack('>BBH', 255, 0xed, len(block)+2)+block, **kwargs)

def test_comment_iptc_and_resolution_of_a_jpeg(tmp_path):
    iptc_jpeg(tmp_path/'a.jpg', b'\x1c\x02x\0\3sea', comment=b'hello', dpi=(300,300))
    with pytest.warns(UserWarning, match="JPEG files can't hold this, and the results are without it: IPTC$"): im = translated(tmp_path, 'a.jpg', 20)
    assert im.info['comment']==b'hello' and im.info['dpi']==(150,150)

def test_texts_and_xmp_of_a_png(tmp_path):
    info = PngInfo(); info.add_text('Author', 'Ö. Berg'); info.add_itxt('Title', '海', 'ja', 'T'); info.add_itxt('XML:com.adobe.xmp', '<x a="1"/>')
    picture.save(tmp_path/'a.png', pnginfo=info, dpi=(100,100))
    im = translated(tmp_path, 'a.png')
    assert {k: str(v) for k,v in im.text.items()}=={'Author': 'Ö. Berg', 'Title': '海', 'XML:com.adobe.xmp': '<x a="1"/>'}
    assert im.text['Title'].lang=='ja' and round(im.info['dpi'][0])==100

# GeoTIFF

def geotiff(path, size=(60,40), big=False, keys=KEYS, **more):
    e = Image.Exif()
    e.update({33550: (10.,12.,0.), 33922: (0.,0.,0.,5e5,5e6,0.), 34735: keys, 34737: 'WGS 84 / UTM zone 33N|', 306: DATE})
    e.update({int(k[1:]): v for k,v in more.items()})
    for k in [k for k,v in e.items() if v is None]: del e[k]
    picture.resize(size).save(path, exif=e, big_tiff=big)

@pytest.mark.parametrize('text', ['{"shape": [40, 60, 3]}', 'ImageJ=1.54\nimages=3\n', '<?xml version="1.0"?><!-- --><OME xmlns="a"></OME>'])
def test_descriptions_of_how_pixels_are_stored_go(tmp_path, text):
    picture.save(tmp_path/'a.tif', tiffinfo={270: text, 305: 'program'})
    im = translated(tmp_path, 'a.tif')
    assert 270 not in im.tag_v2 and im.tag_v2[305]=='program'

@pytest.mark.parametrize('dpi', [(0,0), (1e8,1e8), (40_000,40_000)])
def test_resolutions_that_say_nothing(tmp_path, dpi):
    picture.save(tmp_path/'a.png', dpi=dpi, exif=exif_of())
    assert 'dpi' not in translated(tmp_path, 'a.png', 80).info and DATE in tags(translated(tmp_path, 'a.png', 80, expect='skipped'))[0].values()

@pytest.mark.parametrize('big', [False, True])
def test_a_georeference_stays(tmp_path, big):
    geotiff(tmp_path/'a.tif', big=big)
    before, im = Image.open(tmp_path/'a.tif'), translated(tmp_path, 'a.tif')
    for k in (33550,33922,34735,34737): assert im.tag_v2[k]==before.tag_v2[k] and im.tag_v2.tagtype[k]==before.tag_v2.tagtype[k]
    assert im.tag_v2[306]==DATE

@pytest.mark.parametrize('size,orientation', [(20,1), (None,3)])
def test_a_georeference_that_is_not_true_any_more_is_left_out_aloud(tmp_path, size, orientation):
    geotiff(tmp_path/'a.tif', _274=orientation)
    with pytest.warns(UserWarning, match="GeoTIFF.* is left out of results that have another size, or are turned"): im = translated(tmp_path, 'a.tif', size)
    assert 33550 not in im.tag_v2 and im.tag_v2[306]==DATE

def test_a_tiff_says_what_it_loses(tmp_path):
    picture.save(tmp_path/'a.tif', exif=exif_of(_42113=7))
    with pytest.warns(UserWarning) as w: im = translated(tmp_path, 'a.tif')
    said = [str(o.message) for o in w if 'left out' in str(o.message)]
    assert any('left out of the results: [42113]' in o for o in said) and any('position and settings of EXIF' in o for o in said)
    assert im.tag_v2[306]==DATE and im.tag_v2[271]=='Camera'

@pytest.mark.parametrize('kind,lost', [('JPEG','GeoTIFF tags, texts'), ('PNG','a comment, GeoTIFF tags'),
    ('WEBP','a comment, resolution, GeoTIFF tags, texts'), ('TIFF','a comment, texts')])
def test_other_formats_say_what_they_cannot_hold(tmp_path, kind, lost):
    geotiff(tmp_path/'a.tif')
    picture.save(tmp_path/'a.jpg', comment=b'hello', dpi=(300,300), exif=exif_of())
    im = same(tmp_path/'a.jpg')
    im.info.update(tiff=read_metadata(tmp_path/'a.tif')['tiff'], Title='a')
    with pytest.warns(UserWarning) as w: save_photo(im, tmp_path/'b', kind)
    said, = (str(o.message) for o in w if 'hold this' in str(o.message))
    assert said.startswith(f"{kind} files") and {*said.split('it: ')[1].split(', ')}=={*lost.split(', ')}
    assert Image.open(tmp_path/'b').getexif()[306]==DATE

def test_what_is_too_long_for_a_jpeg(tmp_path):
    im = picture.copy(); im.info.update(xmp=b'<x>'+b' '*70_000+b'</x>', comment=b'hello')
    with pytest.warns(UserWarning, match='without it: XMP$'): save_photo(im, tmp_path/'a.jpg', 'JPEG')
    assert Image.open(tmp_path/'a.jpg').info['comment']==b'hello'

@pytest.mark.parametrize('kind', ['jpg','png','webp'])
def test_damaged_metadata_stops_nothing(tmp_path, kind):
    picture.save(tmp_path/f'a.{kind}', exif=exif_of()[:40])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        translated(tmp_path, f'a.{kind}')

# Who keeps it

def test_strip(tmp_path):
    "Leaves nothing but the pixels and their colours; what was translated without it is made again"
    icc = b'profile of the test'
    picture.save(tmp_path/'a.jpg', exif=exif_of(), comment=b'hello', xmp=b'<x/>', dpi=(300,300), icc_profile=icc)
    geotiff(tmp_path/'b.tif')
    jobs = find_images([tmp_path/'a.jpg',tmp_path/'b.tif'], tmp_path/'out', 'winter')
    def run(**kwargs): return [o['status'] for o in translate_files(same, jobs, **kwargs)]
    assert run()==['done']*2 and run()==['skipped']*2
    assert run(strip=True)==['done']*2 and run(strip=True)==['skipped']*2
    assert not any(read_metadata(o.result) for o in jobs) and DATE.encode() not in b''.join(o.result.read_bytes() for o in jobs)
    assert Image.open(jobs[0].result).info['icc_profile']==icc

def test_an_image_gives_what_its_file_gives(tmp_path):
    "Whether it was read before or not; results can be translated again"
    geotiff(tmp_path/'a.tif'); picture.save(tmp_path/'a.jpg', exif=exif_of(6), comment=b'hello')
    for name in ('a.tif','a.jpg'):
        im,read = Image.open(tmp_path/name),Image.open(tmp_path/name)
        read.load()
        expected = same(tmp_path/name).info
        assert len(expected)>1 and same(im).info==expected and same(read).info==expected
    assert same([tmp_path/'a.jpg'])[0].info==expected and same(same(tmp_path/'a.jpg')).info==expected
    assert same(tmp_path/'a.jpg', strip=True).info=={}

def test_app_and_serverless_function_pass_nothing_on(tmp_path):
    picture.save(tmp_path/'a.jpg', exif=exif_of(), comment=b'hello', xmp=b'<x/>')
    for real,fake,_ in translations(same, tmp_path/'a.jpg', 'summer → winter'): assert fake.info=={}
    for kind in ('png','jpeg','webp'):
        body = base64.b64decode(translate_body(same, (tmp_path/'a.jpg').read_bytes(), 10**6, format=kind)['body'])
        (tmp_path/'b').write_bytes(body)
        assert not read_metadata(tmp_path/'b') and DATE.encode() not in body

def test_command_line(tmp_path, model_file):
    picture.save(tmp_path/'a.jpg', exif=exif_of())
    def run(*args):
        cmd = [sys.executable, '-m', 'cyclegan_fastai.cli', 'translate', 'a.jpg', '--model', str(model_file), *args]
        subprocess.run(cmd, cwd=tmp_path, check=True, capture_output=True)
        [result] = (tmp_path/'translated').glob('a_*.jpg')
        return tags(Image.open(result))
    assert run()[2]==GPS and run()[0][306]==DATE and run('--strip')==({}, {}, {})
