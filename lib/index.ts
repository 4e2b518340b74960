/** The public interface of lowrank. */
export * from './errors.js'
