// The destructors live here so that each exception type has one vtable and type_info, shared by all libraries:
// otherwise a handler in one shared library may not recognise an exception thrown by another.
#include "solvent/core/error.h"

namespace solvent {

Error::~Error() = default;
ShapeError::~ShapeError() = default;
DtypeError::~DtypeError() = default;
DeviceError::~DeviceError() = default;
ValueError::~ValueError() = default;
AutodiffError::~AutodiffError() = default;
SolverError::~SolverError() = default;
IoError::~IoError() = default;
OutOfMemoryError::~OutOfMemoryError() = default;

}  // namespace solvent
