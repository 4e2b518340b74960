/**
 * What the example asks of Electron, in one process of Node.js: the window's code runs beside the main code, with elements that
 * hold what is set, and a utility process is one that `fork` starts. Messages are copied, as between processes.
 */
const { fork } = require('node:child_process')
const { EventEmitter } = require('node:events')
const { dirname, join } = require('node:path')
const { pathToFileURL } = require('node:url')

class App extends EventEmitter {
  whenReady = () => Promise.resolve()
  getPath = () => process.env.STAND_IN_FOLDER

  quit() {
    let prevented = false
    this.emit('before-quit', { preventDefault: () => (prevented = true) })
    if (!prevented) process.exit(0)
  }
}

class UtilityProcess extends EventEmitter {
  #child

  constructor(file) {
    super()
    this.#child = fork(file, { execArgv: [] })
    for (const name of ['message', 'exit']) this.#child.on(name, (value) => this.emit(name, value))
  }

  postMessage = (message) => this.#child.send(message)
  kill = () => this.#child.kill()
}

const handlers = new Map()
const toMain = new EventEmitter()
const toWindow = new EventEmitter()
const elements = new Map()

class BrowserWindow {
  #preload

  constructor({ webPreferences }) {
    this.#preload = webPreferences.preload
  }

  isDestroyed = () => false
  webContents = { send: (channel, message) => toWindow.emit(channel, {}, structuredClone(message)) }

  async loadFile(page) {
    globalThis.window = {}
    globalThis.document = {
      getElementById: (id) => elements.get(id) ?? elements.set(id, {}).get(id),
    }
    require(this.#preload)
    await import(pathToFileURL(join(dirname(page), 'renderer.mjs')).href)
  }
}

exports.app = new App()
exports.BrowserWindow = BrowserWindow
exports.contextBridge = {
  exposeInMainWorld: (name, value) => Object.assign(globalThis.window, { [name]: value }),
}
exports.dialog = {
  showOpenDialog: (_window, { filters: [{ name }] }) =>
    Promise.resolve({ filePaths: [process.env[`STAND_IN_${name.toUpperCase()}`]] }),
}
exports.ipcMain = {
  handle: (channel, handler) => handlers.set(channel, handler),
  on: (channel, listener) => toMain.on(channel, listener),
}
exports.ipcRenderer = {
  invoke: async (channel, value) => handlers.get(channel)({}, structuredClone(value)),
  send: (channel, value) => toMain.emit(channel, {}, structuredClone(value)),
  on: (channel, listener) => toWindow.on(channel, listener),
}
exports.utilityProcess = { fork: (file) => new UtilityProcess(file) }
