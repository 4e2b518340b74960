import { expect, test } from 'vitest'
import { parseHubName } from '../../../lib/hub/name.js'

test.each(['C:\\models\\tiny', 'C:/models/tiny', 'D:model/tiny', '\\\\server\\share\\tiny', 'models\\tiny'])(
  '%s is a path of Windows, and no name of the hub',
  (path) => {
    expect(parseHubName(path)).toBeUndefined()
  },
)
