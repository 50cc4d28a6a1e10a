// The page: it takes pictures, sends them to the worker, and shows the results
import {onWhite} from './pixels.js'

const MEGABYTES = 60 // larger than a camera's files, small enough for a browser
const SIZES = [64, 128, 256, 384, 512], DEFAULT = 256

const $ = id => document.getElementById(id)
const show = (id, yes = true) => { $(id).hidden = !yes }
const hide = (...ids) => ids.forEach(o => show(o, false))
const make = (tag, props = {}, ...inside) => { const o = Object.assign(document.createElement(tag), props); o.append(...inside); return o }
const chosen = name => document.querySelector(`input[name=${name}]:checked`)?.value
const context = canvas => canvas.getContext('2d', {willReadFrequently: true}) // in memory, because graphics cards round differently

const RESULT = ['after', 'divider', 'tag-before', 'tag-after', 'result']

let model, source, stream, wish
let shots = {} // original, there, back: {pixels, w, h}

// Words

function state(name) { document.body.dataset.state = name }
function say(text, clock = '') { $('status').textContent = text; $('clock').textContent = clock }
function fail(e) {
  say(''); hide('progress', 'stop'); show('error')
  $('error').textContent = e.message ?? e
  state('error')
}

// Pictures

async function decode(blob, name) {
  if (blob.size > MEGABYTES * 1e6) throw Error(`“${name}” has ${Math.round(blob.size / 1e6)} MB, and ${MEGABYTES} can be read: make it smaller.`)
  try { return await createImageBitmap(blob, {imageOrientation: 'from-image'}) }
  catch { throw Error(`“${name}” can't be read as an image by this browser: choose a JPEG, a PNG or a WebP.`) }
}

// Halves the picture first, because browsers skip pixels when they make a picture much smaller
function drawn(image, w, h, paper) {
  const half = image.width > 2 * w && image.height > 2 * h
  const canvas = make('canvas', {width: half ? Math.ceil(image.width / 2) : w, height: half ? Math.ceil(image.height / 2) : h}), c = context(canvas)
  if (paper) { c.fillStyle = paper; c.fillRect(0, 0, w, h) }
  c.imageSmoothingQuality = 'high'
  c.drawImage(image, 0, 0, canvas.width, canvas.height)
  return half ? drawn(canvas, w, h) : canvas
}

// {pixels, w, h}: colours on white, with the original alpha
function shrunk(image, longest) {
  const k = Math.min(1, longest / Math.max(image.width, image.height))
  const w = Math.max(1, Math.round(image.width * k)), h = Math.max(1, Math.round(image.height * k))
  const canvas = drawn(image, w, h), read = o => context(o).getImageData(0, 0, w, h).data
  const own = read(canvas), pixels = read(drawn(canvas, w, h, '#fff'))
  for (let i = 3; i < own.length; i += 4) pixels[i] = own[i]
  return {pixels, w, h}
}

function paint(id, {pixels, w, h}) {
  const canvas = $(id)
  Object.assign(canvas, {width: w, height: h})
  context(canvas).putImageData(new ImageData(pixels, w, h), 0, 0)
  show(id)
}

// Work

let worker, pending

function stop(why = null) {
  if (!pending) return                                           // with everything it has loaded
  worker.terminate()
  const reject = pending
  worker = pending = null
  reject(why)
}

function ask(job, progress) {
  stop()                                                         // only the newest request counts
  worker ??= new Worker(new URL('worker.js', import.meta.url), {type: 'module'})
  return new Promise((resolve, reject) => {
    pending = reject
    worker.onerror = () => stop(Error('The model can\'t be started: the server is gone, the folder is incomplete, or this browser is too old.'))
    worker.onmessage = ({data}) => {
      if (data.step) return progress(data)
      if (data.error) return stop(Error(data.error))
      pending = null
      resolve(data)
    }
    worker.postMessage(job)
  })
}

// Progress: bytes while something loads, seconds while something is computed
function follow() {
  let since, timer
  const tick = () => { $('clock').textContent = `${((performance.now() - since) / 1000).toFixed(1)} s` }
  show('progress'); show('stop'); hide('error', 'result'); state('busy')
  return [({step, done, total}) => {
    clearInterval(timer)
    const mb = n => (n / 1e6).toFixed(1)
    if ($('status').textContent !== `${step} …`) say(`${step} …`)
    if (total) { $('progress').value = Math.min(1, done / total); $('clock').textContent = `${mb(Math.min(done, total))} of ${mb(total)} MB` }
    else { $('progress').removeAttribute('value'); since = performance.now(); tick(); timer = setInterval(tick, 100) }
  }, () => { clearInterval(timer); $('clock').textContent = '' }]
}

async function translated({pixels, w, h}, to) {
  const [progress, end] = follow()
  try { return {...await ask({to, pixels, w, h, models: model.models, runtime: model.runtime}, progress), w, h} }
  finally { end() }
}

const other = to => model.domains.find(o => o !== to)

// What is right of the line: the translation, or its translation back
async function shot(name, to) {
  if (name === 'there') return translated(shots.original, to)
  const {pixels, w, h} = shots.there
  return translated({pixels: onWhite(pixels), w, h}, other(to))
}

// When a translation fails: `e` is null if a newer request took over, 'stopped', or an error
function without(e) {
  if (!e) return
  if (e === 'stopped') { say('Stopped.'); hide('progress', 'stop'); state('stopped') } else fail(e)
  if (!shots.there) return
  document.querySelector('input[name=view]').checked = true
  show('result')
}

async function view() {
  const to = chosen('to'), name = chosen('view'), label = name === 'back' ? `${to}, and back` : to
  try { shots[name] ??= await shot(name, to) } catch (e) { return without(e) }
  const {seconds, w, h} = shots[name]
  paint('after', shots[name])
  $('after').setAttribute('aria-label', `The translation: ${label}`)
  $('tag-after').textContent = label
  await offer(`${source.name.replace(/\.\w+$/, '')}-${label.replace(/[^\p{L}\d]+/gu, '-')}.png`)
  if (pending) return                                            // a newer request
  hide('progress', 'stop')
  for (const o of RESULT) show(o)
  say(`${w} × ${h} pixels in ${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`)
  state('done')
}

async function offer(download) {
  const blob = await new Promise(done => $('after').toBlob(done))
  URL.revokeObjectURL($('download').href)
  Object.assign($('download'), {href: URL.createObjectURL(blob), download})
}

async function translate() {
  if (!source) return
  stop()
  closeCamera()
  hide('drop', 'error', ...RESULT)
  shots = {original: shrunk(source.image, +$('size').value)}
  frame(shots.original.w / shots.original.h)
  paint('before', shots.original)
  document.querySelector('input[name=view]').checked = true
  place(50)
  await view()
}

async function open(blob, name, domain) {
  const mine = wish = {}
  stop()
  closeCamera()
  try {
    const image = await decode(blob, name)
    if (wish !== mine) return                                    // another picture was chosen meanwhile
    source = {image, name}
  } catch (e) { return fail(e) }
  const radio = domain && document.querySelector(`input[name=to][value="${CSS.escape(other(domain))}"]`)
  if (radio) { radio.checked = true; views() }
  await translate()
}

// Camera

async function openCamera() {
  stop()
  hide('error')
  try { stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment', width: {ideal: 1280}}, audio: false}) }
  catch (e) {
    return fail({NotAllowedError: 'The camera was refused: allow it in the address bar, or choose a file.', NotFoundError: 'No camera was found: choose a file.'}[e.name]
      ?? `The camera can't be used (${e.message}): choose a file.`)
  }
  $('video').srcObject = stream
  await $('video').play()
  frame($('video').videoWidth / $('video').videoHeight)
  for (const o of ['video', 'shoot', 'close']) show(o)
  hide('drop', 'before', 'progress', 'stop', ...RESULT)
  say('')
  state('camera')
  $('shoot').focus()
}

function closeCamera() {
  stream?.getTracks().forEach(o => o.stop())
  stream = $('video').srcObject = null
  hide('video', 'shoot', 'close')
  if (!source) { frame(4 / 3); show('drop') }
}

async function shoot() {
  source = {image: await createImageBitmap($('video')), name: 'camera'}
  await translate()
}

function leaveCamera() {
  closeCamera()
  source ? translate() : state('empty')
}

// The stage

function frame(ratio) { $('stage').style.setProperty('--ratio', ratio) }
function place(percent) { $('divider').value = percent; $('stage').style.setProperty('--at', `${percent}%`) }

function radios(box, name, options, changed) { // options: [value, text]
  $(box).replaceChildren(...options.map(([value, text], i) => {
    const input = make('input', {type: 'radio', name, value, checked: !i, className: 'unseen'})
    input.addEventListener('change', changed)
    return make('label', {}, input, make('span', {textContent: text}))
  }))
}

function views() {
  const to = chosen('to'), back = model.models[other(to)]
  radios('views', 'view', [['there', to], ['back', 'and back']], view)
  show('views', Boolean(back))
}

async function start() {
  const query = new URLSearchParams(location.search)
  if (query.has('embed')) document.documentElement.classList.add('embed')
  if (query.has('theme')) document.documentElement.dataset.theme = query.get('theme')
  hide('asleep')
  document.querySelector('main').hidden = false
  const response = await fetch('model.json', {cache: 'no-cache'}) // it may have been exported again
  if (!response.ok) throw Error(`“model.json” is missing (${response.status}): the folder is incomplete, export it once more.`)
  model = await response.json()

  const names = model.domains.filter(o => model.models[o]).reverse()
  radios('directions', 'to', names.map(o => [o, `${other(o)} → ${o}`]), () => { views(); translate() })
  show('directions-box', names.length > 1)
  views()
  const sizes = [...new Set([...SIZES, ...(model.size ? [model.size] : [])])].sort((a, b) => a - b)
  $('size').append(...sizes.map(o => new Option(`${o} pixels${o === model.size ? ', as trained' : ''}`, o, o === DEFAULT, o === DEFAULT)))
  $('trained').textContent = model.size ? `Trained at ${model.size} pixels.` : ''
  $('examples').append(...model.examples.map(({file, name, domain}) => {
    const thumb = make('button', {type: 'button', className: 'thumb', title: name}, make('img', {src: file, alt: `Example: ${name}`}))
    thumb.addEventListener('click', async () => {
      const response = await fetch(file).catch(() => ({}))
      response.ok ? open(await response.blob(), file.split('/').pop(), domain) : fail(`“${file}” is missing: the folder is incomplete, export it once more.`)
    })
    return thumb
  }))
  show('examples', model.examples.length > 0)
  show('camera', Boolean(navigator.mediaDevices?.getUserMedia))

  $('file').addEventListener('change', ({target}) => { if (target.files[0]) open(target.files[0], target.files[0].name); target.value = '' })
  $('size').addEventListener('change', translate)
  $('divider').addEventListener('input', ({target}) => place(target.value))
  $('stop').addEventListener('click', () => stop('stopped'))
  $('camera').addEventListener('click', openCamera)
  $('shoot').addEventListener('click', shoot)
  $('close').addEventListener('click', leaveCamera)
  const given = files => { const file = files[0]; if (file) open(file, file.name) }
  addEventListener('paste', e => given(e.clipboardData.files))
  const over = yes => e => { e.preventDefault(); document.body.classList.toggle('over', yes) }
  addEventListener('dragover', over(true))
  addEventListener('dragleave', over(false))
  addEventListener('drop', e => { over(false)(e); given(e.dataTransfer.files) })
  state('empty')
}

start().catch(fail)
