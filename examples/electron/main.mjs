/** The app: one window, and one utility process while a model trains. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { app, BrowserWindow, dialog, ipcMain, utilityProcess } from 'electron'

const here = fileURLToPath(new URL('.', import.meta.url))
/** Threads of the engine: one leaves the other cores to the user; more are faster. */
const THREADS = 1
const OPTIONS = { numTrainEpochs: 3, perDeviceTrainBatchSize: 2, maxSeqLength: 256, saveSteps: 50 }
/** @type {Record<string, Electron.OpenDialogOptions>} */
const PICKERS = {
  model: { properties: ['openFile'], filters: [{ name: 'Models', extensions: ['gguf'] }] },
  data: {
    properties: ['openFile'],
    filters: [{ name: 'Data', extensions: ['jsonl', 'json', 'csv', 'parquet'] }],
  },
}

/** @type {BrowserWindow} */
let window
/** @type {Electron.UtilityProcess | undefined} */
let worker

/** A writable folder; the app's own is read-only. */
const output = () => join(app.getPath('userData'), 'adapter')
const hasCheckpoint = () =>
  existsSync(output()) && readdirSync(output()).some((name) => name.startsWith('checkpoint-'))

/** @param {{ type: string, message?: string }} message of the worker */
function report(message) {
  if (!window.isDestroyed()) window.webContents.send('training', message)
}

/** @param {{ model: string, data: string, resume: boolean }} choice */
function start({ model, data, resume }) {
  worker = utilityProcess.fork(join(here, 'worker.mjs'), [], { serviceName: 'lowrank' })
  const own = worker
  let ended = false
  own.on('message', (message) => {
    report(message)
    ended = ['done', 'canceled', 'error'].includes(message.type)
    if (ended) own.kill()
  })
  own.on('exit', (code) => {
    if (worker === own) worker = undefined
    if (!ended) report({ type: 'error', message: `the training process ended early (${code})` })
  })
  // Files of an earlier run in the folder are replaced.
  const options = { ...OPTIONS, force: !resume }
  own.postMessage({ type: 'train', model, data, output: output(), resume, threads: THREADS, options })
}

ipcMain.handle('pick', async (_event, kind) => {
  const { filePaths } = await dialog.showOpenDialog(window, PICKERS[kind])
  return filePaths[0]
})
ipcMain.handle('resumable', () => worker === undefined && hasCheckpoint())
ipcMain.on('start', (_event, choice) => {
  if (worker === undefined) start(choice)
})
ipcMain.on('tell', (_event, type) => {
  if (['pause', 'continue', 'cancel'].includes(type)) worker?.postMessage({ type })
})

// The current step is finished and a checkpoint is saved before the app quits.
app.on('before-quit', (event) => {
  if (worker === undefined) return
  event.preventDefault()
  worker.once('exit', () => app.quit())
  worker.postMessage({ type: 'cancel' })
})
app.on('window-all-closed', () => app.quit())

await app.whenReady()
window = new BrowserWindow({
  width: 560,
  height: 420,
  webPreferences: { preload: join(here, 'preload.cjs') },
})
await window.loadFile(join(here, 'index.html'))
