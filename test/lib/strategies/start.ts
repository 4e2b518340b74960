import type { Adapter } from '../../../lib/index.js'

/** Gives what starts at zero other values, so that an adapter changes what the model computes. */
export function leaveZero({ state: { native, description } }: Adapter, seed = 5): void {
  for (const { name, initializer } of description.factors)
    if (initializer.kind === 'zeros') native.fill(name, { kind: 'normal', std: 0.1, seed })
}
