/** The interface of the app for the window. */
const { contextBridge, ipcRenderer } = require('electron')

contextBridge.exposeInMainWorld('training', {
  /** @param {'model' | 'data'} kind @returns {Promise<string | undefined>} a path */
  pick: (kind) => ipcRenderer.invoke('pick', kind),
  /** @returns {Promise<boolean>} whether there is a run to go on with */
  resumable: () => ipcRenderer.invoke('resumable'),
  /** @param {{ model: string, data: string, resume: boolean }} choice */
  start: (choice) => ipcRenderer.send('start', choice),
  /** @param {'pause' | 'continue' | 'cancel'} type */
  tell: (type) => ipcRenderer.send('tell', type),
  /** @param {(message: { type: string }) => void} listener */
  onMessage: (listener) => ipcRenderer.on('training', (_event, message) => listener(message)),
})
