// Node.js for Windows loads this before a program that wine runs. Under wine 8, a connection that is not made yet cannot be
// told to be kept alive; fetch tells every one, and then none is made.
import { Socket } from 'node:net'

const { setKeepAlive } = Socket.prototype
Socket.prototype.setKeepAlive = function (...options) {
  return this.connecting ? this : setKeepAlive.apply(this, options)
}
