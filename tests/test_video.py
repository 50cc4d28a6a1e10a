"Films: frames, sound, pace and direction; flicker against sums done by hand; and what is damaged or interrupted"
import re, subprocess, sys
from fractions import Fraction

import numpy as np, pytest
from PIL import Image
from cyclegan_fastai.use.batch import find_images, translate_files
from cyclegan_fastai.use.engines import TorchEngine
from cyclegan_fastai.use.translator import Translator
from cyclegan_fastai.data.landscape import Scene, draw_scene
from cyclegan_fastai.nets.models import init_gan, resnet_generator
from cyclegan_fastai.use.video import *
from cyclegan_fastai.use.video import _Moving, _Video, _cutter

needs_ffmpeg = pytest.mark.usefixtures('ffmpeg')

@pytest.fixture(scope='session')
def ffmpeg():
    "Runs ffmpeg; gives what it prints"
    exe = pytest.importorskip('imageio_ffmpeg', reason='no ffmpeg: install the extra [video]').get_ffmpeg_exe()
    def run(*args, **kwargs):
        res = subprocess.run([exe, '-hide_banner', '-v', 'error', '-y', *map(str, args)], capture_output=True, **kwargs)
        if res.returncode: raise RuntimeError(res.stderr.decode())
        return res.stdout
    return run

@pytest.fixture(scope='session')
def frames():
    "A pan over a drawn landscape, (24, 48, 64, 3)"
    scene = np.array(draw_scene(Scene.random(np.random.default_rng(3)), 'summer', 112))
    return np.stack([scene[20+i:68+i, 2*i:2*i+64] for i in range(24)])

@pytest.fixture(scope='session')
def make(ffmpeg, frames, tmp_path_factory):
    "Makes a film of `frames`, with a tone of 440 Hz"
    folder = tmp_path_factory.mktemp('films')
    def film(name, *args, frames=frames, fps=24, sound=True, before=()):
        n,h,w,_ = frames.shape
        tone = ('-f','lavfi','-i',f'sine=frequency=440:duration={float(n/Fraction(fps))}') if sound else ()
        ffmpeg('-f','rawvideo','-pix_fmt','rgb24','-s',f'{w}x{h}','-r',fps,*before,'-i','-',*tone,*args,folder/name, input=frames.tobytes())
        return folder/name
    return film

@pytest.fixture(scope='session')
def film(make): return make('pan.mp4', '-pix_fmt', 'yuv420p', '-c:a', 'aac', '-movflags', '+faststart')

class Same:
    "Translates nothing, but counts"
    radius,device = 0,'cpu'
    def __init__(self): self.sizes = []
    def __call__(self, x): self.sizes.append(len(x)); return x
    def fixed(self, samples): return self

def translates(engine): return Translator({'winter': engine}, ('summer','winter'))
def read(path): return np.stack(list((_Moving if is_moving(path) else _Video)(path, None)))
def psnr(a, b): return 10*np.log10(255**2/max(((a.astype(float)-b)**2).mean(), 1e-9))

# Reading and writing

@pytest.mark.parametrize('name,args', [
    ('exact.mkv', '-c:v ffv1 -pix_fmt bgr0'), ('exact.mov', '-c:v png'), ('exact.avi', '-c:v ffv1 -pix_fmt bgr0 -c:a pcm_s16le')])
def test_frames_are_read_to_the_last_bit(make, frames, name, args):
    clip = _Video(make(name, *args.split()), None)
    assert (clip.size, clip.fps)==((64,48), 24)
    for _ in range(2): assert np.array_equal(np.stack(list(clip)), frames)

@pytest.mark.parametrize('name,args,fps', [
    ('a.mp4', '-pix_fmt yuv420p -c:a aac', 24), ('film.mov', '-pix_fmt yuv420p -c:a pcm_s16le', '30000/1001'),
    ('a.mkv', '-c:a libmp3lame', '24000/1001'), ('a b [1].webm', '-c:v libvpx-vp9 -deadline realtime', 12),
    ('é: 100%.avi', '-c:v mpeg4 -q:v 2 -c:a pcm_s16le', 25), ('no sound.mp4', '-an -pix_fmt yuv420p', 10)])
def test_a_film_keeps_frames_pace_and_sound(make, ffmpeg, frames, tmp_path, name, args, fps):
    source,result = make(name, *args.split(), fps=fps),tmp_path/f'{name} out'/'winter.mp4'
    about = translate_video(translates(Same()), source, result)
    clip,n = _Video(result, None),len(read(source))
    assert n==24 or n==25 and 'mp3' in args                                        # an old ffmpeg lets the film begin after its sound
    assert (clip.size, clip.fps, len(list(clip)))==((64,48), Fraction(fps), n)
    assert (about['frames'], about['size'], about['fps'])==(n, (64,48), round(float(Fraction(fps)), 3))
    assert psnr(read(result), read(source)) > 27
    assert np.abs((read(result).astype(float)-read(source)).mean((0,1,2))).max() < 2   # no shift of colours
    assert bool(clip.sound)==(name!='no sound.mp4')
    if clip.sound:
        sound = np.frombuffer(ffmpeg('-i', f'file:{result}', '-f','s16le','-ac',1,'-ar',8000,'-'), np.int16)
        tone = np.abs(np.fft.rfft(sound)).argmax()*8000/len(sound)
        assert abs(tone-440) < 5 and abs(len(sound)/8000 - 24/float(Fraction(fps))) < .15
    assert [o.name for o in result.parent.iterdir()]==['winter.mp4']

def test_colours_stay(make, tmp_path):
    "Even the strongest ones, for whoever reads the file's tags"
    x = np.zeros((3,64,96,3), np.uint8)
    for i,c in enumerate([(255,0,0), (0,255,0), (0,0,255), (255,255,0), (128,128,128), (255,255,255)]): x[:,:,16*i:16*i+16] = c
    translate_video(translates(Same()), make('patches.mkv', '-c:v','ffv1','-pix_fmt','bgr0', frames=x), tmp_path/'a.mp4')
    error = np.abs(read(tmp_path/'a.mp4').astype(int)-x).reshape(3, 64, 6, 16, 3)[:,:,:,4:12]  # but for the edges, where colours are coarser
    assert error.max() <= 3

def test_sound_is_copied_as_it_is(film, ffmpeg, tmp_path):
    translate_video(translates(Same()), film, tmp_path/'a.mp4')
    a,b = [re.findall(rb'0x\w{8}', ffmpeg('-i', o, '-map','0:a', '-c','copy','-f','framecrc','-')) for o in (film, tmp_path/'a.mp4')]
    assert a==b and len(a)>10

def test_frames_are_what_the_translator_gives(film, translator, tmp_path):
    for steady in (False, True):
        translate_video(translator, film, tmp_path/'a.mp4', 'winter', steady=steady)
        x = read(film)
        expected = np.stack([(hold(translator, x, 'winter')[0] if steady else translator)(o, 'winter') for o in x])
        blocks = lambda o: o.reshape(24, 6, 8, 8, 8, 3).mean((2,4))                # an untrained network's pixels are noise
        made = read(tmp_path/'a.mp4')
        assert psnr(blocks(made), blocks(expected)) > 30
        assert psnr(blocks(made), blocks(x)) < 20                                  # and not the source

@pytest.mark.parametrize('shape,size,expected', [((49,65), None, (64,48)), ((48,65), None, (64,48)), ((50,32), None, (32,50)), ((48,64), 24, (32,24)),
                                                 ((48,64), 33, (44,32)), ((2,2), None, (2,2))])
def test_sides_are_even(make, tmp_path, shape, size, expected):
    x = np.random.default_rng(0).integers(0, 255, (3,*shape,3), dtype=np.uint8)
    about = translate_video(translates(Same()), make('odd.mkv', '-c:v','ffv1','-pix_fmt','bgr0', frames=x), tmp_path/'a.mp4', size=size)
    assert about['size']==expected==_Video(tmp_path/'a.mp4', None).size

def test_telephones_lie_on_their_side(make, frames, ffmpeg, tmp_path):
    lying = make('lying.mp4', '-pix_fmt', 'yuv420p')
    try: ffmpeg('-display_rotation', 90, '-i', lying, '-c','copy', tmp_path/'up.mp4')
    except RuntimeError: ffmpeg('-i', lying, '-c','copy', '-metadata:s:v','rotate=90', tmp_path/'up.mp4')  # before ffmpeg 6
    about = translate_video(translates(Same()), tmp_path/'up.mp4', tmp_path/'out.mp4')
    assert about['size']==(48,64) and psnr(read(tmp_path/'out.mp4'), np.rot90(frames, axes=(1,2))) > 25

def test_uneven_pace_and_broad_pixels(ffmpeg, tmp_path):
    lavfi = "testsrc2=s=64x48:r=25:d=2,select='not(mod(n\\,5))',setpts='PTS+0.02*mod(N\\,2)/TB',setsar=4/3"
    ffmpeg('-f','lavfi','-i',lavfi,'-fps_mode','vfr','-pix_fmt','yuv420p', tmp_path/'in.mkv')
    about = translate_video(translates(Same()), tmp_path/'in.mkv', tmp_path/'out.mp4')
    clip = _Video(tmp_path/'out.mp4', None)
    assert clip.shape=='4/3' and 1.7 < about['frames']/about['fps'] < 2.1

@pytest.mark.parametrize('kind', ['gif','webp','png','avif'])
def test_moving_images(frames, tmp_path, kind):
    source,times = tmp_path/f'a.{kind}',[40,80,120,60]
    Image.fromarray(frames[0]).save(source, save_all=True, append_images=[Image.fromarray(o) for o in frames[1:4]], duration=times, loop=3)
    about = translate_video(translates(Same()), source, tmp_path/'out.webp')
    made = _Moving(tmp_path/'out.webp', None)
    assert (about['frames'], made.size, made.durations)==(4, (64,48), times) and psnr(read(tmp_path/'out.webp'), read(source)) > 25
    if kind in ('gif','webp'): assert made.loop==3

# In bounded memory

@needs_ffmpeg
@pytest.mark.parametrize('bs', [1,5,24,100])
@pytest.mark.parametrize('steady', [True,False])
def test_batches_and_progress(film, tmp_path, bs, steady):
    engine,seen = Same(),[]
    def progress(frames):
        for o in frames: seen.append(len(engine.sizes)); yield o
    about = translate_video(translates(engine), film, tmp_path/'a.mp4', bs=bs, steady=steady, progress=progress)
    assert (sum(engine.sizes), max(engine.sizes), about['frames'])==(24, min(bs,24), 24)
    assert seen==[i//bs for i in range(24)]                                        # no frame is read before its time

def test_holding_takes_few_frames_of_many():
    class Measured(Same):
        def fixed(self, samples): self.samples = samples; return self
    for n,kept in ((1,1), (31,31), (32,16), (63,16), (64,16), (1000,16)):
        engine = Measured()
        t,total = hold(translates(engine), (np.full((48,64,3), i%256, np.uint8) for i in range(n)))
        assert total==n and (kept<=len(engine.samples)<=2*kept) and engine.samples.shape[1:]==(3,96,128)
        if n==64: assert np.array_equal(((engine.samples[:,0,0,0]+1)*127.5).round(), np.arange(0, 64, 4))

@pytest.mark.parametrize('shape', [(8,8), (16,24), (48,64), (100,260), (300,200), (5,3)])
def test_all_parts_of_a_frame_are_looked_at(shape):
    h,w = shape
    frame = np.arange(h*w).reshape(h, w, 1)
    cut,seen = _cutter(h, w, 2**15),np.zeros(h*w, int)
    for _ in range(60):
        for o in cut(frame):
            a,b = o.shape[0]//4,o.shape[1]//4
            assert o.shape[0]%16==o.shape[1]%16==0
            seen[np.unique(o[a:-a,b:-b])] += 1
    assert seen.min() > 0 and np.median(seen) <= 2.5*seen.min()

# Flicker

def by_hand(x, y):
    x,y = x.astype(int),y.astype(int)
    dx,dy = np.abs(x[1:]-x[:-1]),np.abs(y[1:]-y[:-1])
    still = (dx<=2).all(-1)
    return [v.mean()/255*100 for v in (dy[still], dx[still], dy, dx)]+[still.mean()*100]

@pytest.mark.parametrize('splits', [[], [1], [3,4,9]])
def test_flicker_is_what_the_formula_says(splits):
    rng = np.random.default_rng(0)
    x,y = (rng.integers(0, 5, (12,8,10,3), dtype=np.uint8) for _ in 'xy')
    found = Flicker()
    for a,b in zip(np.split(x, splits), np.split(y, splits)): found.add(a, b)
    res = found.figures()
    assert np.allclose([res[k] for k in ('flicker','source_flicker','change','source_change')], by_hand(x, y)[:4], atol=6e-4)
    assert abs(res['still']-by_hand(x, y)[4]) <= .051 and found.frames==12

def test_flicker_where_nothing_can_be_measured():
    found = Flicker(); found.add(*[np.zeros((1,8,8,3), np.uint8)]*2)
    assert set(found.figures().values())=={None}                                   # a single frame
    found.add(*[np.full((1,8,8,3), 9, np.uint8)]*2)
    assert (found.figures()['flicker'], found.figures()['still'])==(None, 0.)      # nothing stands still
    assert say_video(dict(frames=2, fps=1, size=(8,8), **found.figures()))=='2 frames of 8×8, 1 a second'

class Blinking(Same):
    "Adds a fifth of the range to every second frame"
    n = 0
    def __call__(self, x):
        i = np.arange(self.n, self.n+len(x)); self.n += len(x)
        return x*.5+.4*(i%2)[:,None,None,None]

@needs_ffmpeg
def test_flicker_of_a_film(make, frames, tmp_path):
    still = make('still.mkv', '-c:v','ffv1','-pix_fmt','bgr0', frames=np.stack([frames[0]]*12))
    for bs in (1,4,5):
        same,blinking = [translate_video(translates(o()), still, tmp_path/'a.mp4', bs=bs) for o in (Same,Blinking)]
        assert (same['flicker'], same['source_flicker'], same['still'])==(0., 0., 100.)
        assert abs(blinking['flicker']-20) < .2 and blinking['source_flicker']==0

def test_held_statistics_stop_what_is_far_away_from_changing():
    import torch
    torch.manual_seed(0)
    t = translates(TorchEngine(init_gan(resnet_generator(0, 8), std=.1), 'cpu'))   # reaches 15 pixels
    x = np.stack([np.random.default_rng(0).integers(60, 200, (32,160,3), dtype=np.uint8)]*6)
    for i in range(6): x[i,:,5*i:5*i+12] = 255
    far = lambda y: np.abs(np.diff(y[:,:,60:].astype(int), axis=0)).max()
    assert far(t(x))>0 and far(hold(t, x)[0](x))==0

def test_held_statistics_are_not_measured_again_in_tiles(translator):
    calls = []
    class Counting(TorchEngine):
        def fixed(self, samples):
            found = super().fixed(samples)
            if found is not self: calls.append(len(samples))            # else nothing was measured
            return found
    engine = Counting(translator.engine('winter').net, 'cpu')
    t = Translator({'winter': engine}, ('summer','winter'), whole=2**14, tile=64)
    x = np.random.default_rng(0).integers(0, 255, (2,136,200,3), dtype=np.uint8)
    held,_ = hold(t, x)
    held(x)
    assert len(calls)==1
    assert np.abs(held(x[:1]).astype(int)-t(x[:1])).mean() < 12

# What goes wrong

@pytest.mark.parametrize('what', ['no index','damaged','empty','page','sound only','missing'])
def test_damaged_films_leave_nothing(film, make, ffmpeg, tmp_path, what):
    whole,bad = film.read_bytes(),tmp_path/'bad film.mp4'
    if what=='no index': ffmpeg('-i', film, '-c','copy', bad); bad.write_bytes(bad.read_bytes()[:len(whole)//2])
    elif what=='damaged':
        x = bytearray(whole)
        for i in range(len(x)//2, len(x), 97): x[i] ^= 0xff
        bad.write_bytes(x)
    elif what=='empty': bad.touch()
    elif what=='page': bad.write_text('<html>'*99)
    elif what=='sound only': ffmpeg('-f','lavfi','-i','sine=d=1', bad)
    for steady in (True, False):
        with pytest.raises(FileNotFoundError if what=='missing' else DamagedVideo, match='bad film.mp4`') as e:
            translate_video(translates(Same()), bad, tmp_path/'out'/'a.mp4', steady=steady)
        assert '\n' not in str(e.value)
        assert not list(tmp_path.rglob('a.mp4*'))

@pytest.mark.parametrize('kind', ['mp4','mkv','webm'])
def test_wherever_it_is_cut_off(film, ffmpeg, tmp_path, kind):
    ffmpeg('-i', film, *(() if kind=='webm' else ('-c','copy')), '-movflags','+faststart' if kind=='mp4' else '0', tmp_path/f'whole.{kind}')
    whole,bad = (tmp_path/f'whole.{kind}').read_bytes(),tmp_path/f'bad.{kind}'
    for k in range(50, 96, 5):
        bad.write_bytes(whole[:len(whole)*k//100])
        with pytest.raises((DamagedVideo, OSError), match=f'bad.{kind}`'): translate_video(translates(Same()), bad, tmp_path/'out.mp4')
        assert not list(tmp_path.glob('out*'))

@needs_ffmpeg
@pytest.mark.parametrize('error', [KeyboardInterrupt, MemoryError])
def test_interrupted_films_leave_nothing(film, tmp_path, error):
    class Stops(Same):
        def __call__(self, x):
            if len(self.sizes)==2: raise error
            return super().__call__(x)
    (tmp_path/'a.mp4.part').write_bytes(b'of last time')
    with pytest.raises(error): translate_video(translates(Stops()), film, tmp_path/'a.mp4', bs=4)
    assert not list(tmp_path.iterdir())

def test_what_cannot_be_written(film, tmp_path):
    (tmp_path/'a.mp4').mkdir()
    with pytest.raises(OSError): translate_video(translates(Same()), film, tmp_path/'a.mp4')
    with pytest.raises(ValueError, match='`result` must end with .mp4 or .webp, got .*a.avi'):
        translate_video(translates(Same()), film, tmp_path/'a.avi')
    assert [o.name for o in tmp_path.iterdir()]==['a.mp4']

def test_playlists_fetch_nothing(ffmpeg, serve, tmp_path):
    "A file that calls itself a film and names an address: nothing is asked of any network"
    (tmp_path/'in').mkdir(); (tmp_path/'served').mkdir()
    ffmpeg('-f','lavfi','-i','testsrc2=s=64x48:d=1','-f','mpegts', tmp_path/'served'/'a.ts')
    (tmp_path/'in'/'a.mp4').write_text(f'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{serve(tmp_path/"served")}/a.ts\n#EXT-X-ENDLIST\n')
    with pytest.raises(DamagedVideo): translate_video(translates(Same()), tmp_path/'in'/'a.mp4', tmp_path/'out.mp4')

def test_without_the_extra(monkeypatch, tmp_path, frames):
    monkeypatch.setitem(sys.modules, 'imageio_ffmpeg', None)
    (tmp_path/'in').mkdir(); (tmp_path/'in'/'a.mp4').write_bytes(b'film')
    with pytest.raises(ImportError, match=r"`imageio_ffmpeg`.*pip install 'cyclegan_fastai\[video\]'"):
        translate_video(translates(Same()), tmp_path/'in'/'a.mp4', tmp_path/'a.mp4')
    moving = [Image.fromarray(o) for o in frames[:3]]
    moving[0].save(tmp_path/'in'/'b.gif', save_all=True, append_images=moving[1:])
    rows = list(translate_files(translates(Same()), find_images([tmp_path/'in'], tmp_path/'out', 'winter')))
    assert [(o['status'], o['result'].name) for o in rows]==[('failed','a_winter.mp4'), ('done','b_winter.gif.webp')]
    assert "pip install 'cyclegan_fastai[video]'" in rows[0]['problem'] and rows[1]['video']['frames']==3

def test_films_among_images(film, tmp_path):
    (tmp_path/'in').mkdir()
    (tmp_path/'in'/'film.MOV').write_bytes(film.read_bytes()); (tmp_path/'in'/'photo.jpg').write_bytes(b'no photo')
    jobs = find_images([tmp_path/'in'], tmp_path/'out', 'winter')
    rows = list(translate_files(translates(Same()), jobs))
    assert [(o['status'], o['result'].name) for o in rows]==[('done','film_winter.MOV.mp4'), ('failed','photo_winter.jpg')]
    assert rows[0]['video']['frames']==24 and '24 frames of 64×48' in say_video(rows[0]['video'])
    assert [o['status'] for o in translate_files(translates(Same()), jobs)]==['skipped','failed']
