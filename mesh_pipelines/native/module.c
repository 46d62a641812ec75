/* The native hot path: Kafka's messages, Avro's datums and JSON's objects to columns. */
#include "bytes.h"

extern PyTypeObject ConsumerType;
extern PyTypeObject AvroDecoderType;
extern PyTypeObject JsonDecoderType;

PyObject *check_library(PyObject *module, PyObject *path);

static PyMethodDef functions[] = {
    {"check_library", check_library, METH_O,
     "check_library(path)\n\nRaises ImportError where this librdkafka cannot be used, and says why."},
    {NULL},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "Kafka's messages, Avro's datums and JSON's objects to columns, without an object for each.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__native(void) {
    if (PyType_Ready(&BufferType) < 0)
        return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && PyModule_AddType(made, &ConsumerType) == 0 && PyModule_AddType(made, &AvroDecoderType) == 0 &&
        PyModule_AddType(made, &JsonDecoderType) == 0)
        return made;
    Py_XDECREF(made);
    return NULL;
}
