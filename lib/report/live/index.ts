/** The live page of a run: its server, what it serves, and its controls. */

export { servicePage } from '../service-page.js'
export { announce, ownControls, remoteControls, withdraw } from './controls.js'
export { livePage } from './page.js'
export { runsIn, runsServed } from './runs.js'
export { type LiveOptions, pageHeaders, serveLive } from './server.js'
